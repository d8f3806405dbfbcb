"""The segments of an OFA/MuE model as torch modules with the signatures of the host loop.

Batch is one. Inside a segment everything is of rank 2 and 3: [tokens, d] and [heads, tokens, w],
which every converter takes. Constant factors are folded into weights: the attention scale into
q_proj, the head scales into out_proj. Notation: S tokens, d width, H heads, w head width, n layers
of the segment, Q decoder rows, M cache slots.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mue_edge.loop.protocol import HIDDEN
from mue_edge.models.ofa.network.decoder import Decoder
from mue_edge.models.ofa.network.encoder import Encoder
from mue_edge.models.ofa.network.layers import Attention, DecoderLayer, EncoderLayer, normed
from mue_edge.models.outputs import candidates, flat_similarity, similarity


class Attend(nn.Module):
    """Multi-head attention on [S, d] with the scale and the head scales folded into the weights."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads = attention.heads
        self.q_proj, self.out_proj = copy.deepcopy(attention.q_proj), copy.deepcopy(attention.out_proj)
        self.k_proj, self.v_proj = attention.k_proj, attention.v_proj
        with torch.no_grad():
            self.q_proj.weight.mul_(attention.scale)
            self.q_proj.bias.mul_(attention.scale)
            if attention.c_attn is not None:
                width = self.out_proj.in_features // self.heads
                self.out_proj.weight.mul_(attention.c_attn.repeat_interleave(width))

    def split(self, x: Tensor) -> Tensor:
        """[S, d] → [H, S, w]."""
        return x.reshape(x.shape[0], self.heads, -1).transpose(0, 1)

    def merge(self, weights: Tensor, values: Tensor) -> Tensor:
        """[H, Q, S] logits and [H, S, w] values → [Q, d]."""
        heads = torch.bmm(torch.softmax(weights, -1), values)
        out: Tensor = self.out_proj(heads.transpose(0, 1).reshape(heads.shape[1], -1))
        return out


M = TypeVar("M", bound=nn.Module)


def _at(modules: nn.ModuleList, i: int, kind: type[M]) -> M:
    module = modules[i]
    assert isinstance(module, kind)
    return module


class Gate(nn.Module):
    """Features [1, P, d] of the stem → logits [n] of how likely each encoder depth is enough.

    Written without a matrix product, like `Confidence`: so every target keeps it in float32.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.hidden, self.hidden_bias, self.out, self.out_bias = (
            nn.Parameter(tensors[name].clone(), requires_grad=False)
            for name in ("hidden.weight", "hidden.bias", "out.weight", "out.bias")
        )

    def forward(self, x: Tensor) -> Tensor:
        # XNNPACK sums along the last axis only; older TensorRT knows sums, not means.
        pooled = x[0].float().transpose(0, 1).sum(-1) * (1 / x.shape[1])
        hidden = torch.relu((pooled * self.hidden).sum(-1) + self.hidden_bias)
        return (hidden * self.out).sum(-1) + self.out_bias


class Stem(nn.Module):
    """pixels [1, 3, H, W] → x [1, P, d], with a gate its logits [n]; for the joint encoder the constant words
    are appended."""

    def __init__(self, encoder: Encoder, words: Tensor | None = None, gate: Gate | None = None) -> None:
        super().__init__()
        self.gate = gate
        self.encoder = copy.deepcopy(encoder)
        _fold_batch_norms(self.encoder.embed_images)
        self.words = None if words is None else nn.Parameter(words, requires_grad=False)

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x, _ = self.encoder.embed_patches(pixels)
        if self.gate is not None:
            return x, self.gate(x)
        return x if self.words is None else torch.cat([x, self.words], 1)


class JointStem(nn.Module):
    """Embedded patches [1, P, d], ids [T], live [1, T, 1] → the joint encoder's x [1, P + T, d], padding
    zeroed, and live [1, P + T, 1]."""

    seen: Tensor

    def __init__(self, encoder: Encoder, patches: int) -> None:
        super().__init__()
        self.text = TextStem(encoder)
        self.register_buffer("seen", torch.ones(1, patches, 1))

    def forward(self, patches: Tensor, ids: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([patches, self.text(ids, live)], 1), torch.cat([self.seen, live], 1)


class TextStem(nn.Module):
    """ids [T], live [1, T, 1] → x [1, T, d], padding zeroed."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, live: Tensor) -> Tensor:
        return self.encoder.embed_words(ids[None]) * live


class EncoderSegment(nn.Module):
    """x [1, S, d] → y [1, S, d], score [1], gap [1].

    The absolute position bias comes as extra columns of queries and keys, pos_q and pos_k
    [H, S, w]; a relative one, where the stack has it, as rel [n, H, S, S]. Nothing attends to tokens
    that are 0 in live [1, S, 1].
    """

    def __init__(self, layers: Sequence[EncoderLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.attend = nn.ModuleList(Attend(layer.self_attn) for layer in layers)

    def forward(
        self, x: Tensor, pos_q: Tensor, pos_k: Tensor, rel: Tensor | None = None, live: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        y = before = x[0]
        keys = pos_k.transpose(1, 2)
        hidden = None if live is None else (live.transpose(1, 2) - 1) * -HIDDEN
        for i in range(len(self.layers)):
            before, a, layer = y, _at(self.attend, i, Attend), _at(self.layers, i, EncoderLayer)
            h = layer.self_attn_layer_norm(y)
            q = torch.cat([a.split(a.q_proj(h)), pos_q], 2)
            k = torch.cat([a.split(a.k_proj(h)).transpose(1, 2), keys], 1)
            logits = torch.bmm(q, k)
            if rel is not None:
                logits = logits + rel[i]
            if hidden is not None:
                logits = logits + hidden
            y = _encoder_tail(layer, y, a.merge(logits, a.split(a.v_proj(h))))
        score, gap = flat_similarity(y, before, None if live is None else live[0])
        return y[None], score, gap


class TextSegment(nn.Module):
    """x [1, T, d], bias [n, H, T, T] (positions and padding), live [1, T, 1] → y, score, gap."""

    def __init__(self, layers: Sequence[EncoderLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.attend = nn.ModuleList(Attend(layer.self_attn) for layer in layers)

    def forward(self, x: Tensor, bias: Tensor, live: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = before = x[0]
        for i in range(len(self.layers)):
            before, a, layer = y, _at(self.attend, i, Attend), _at(self.layers, i, EncoderLayer)
            h = layer.self_attn_layer_norm(y)
            logits = torch.bmm(a.split(a.q_proj(h)), a.split(a.k_proj(h)).transpose(1, 2)) + bias[i]
            y = _encoder_tail(layer, y, a.merge(logits, a.split(a.v_proj(h))))
        score, gap = flat_similarity(y, before, live[0])
        return y[None], score, gap


def _encoder_tail(layer: EncoderLayer, x: Tensor, attended: Tensor) -> Tensor:
    return layer.feed_forward(x + normed(layer.attn_ln, attended))


class CrossKV(nn.Module):
    """Encoder states [1, S, d] (image_x and text_x, or encoder_x) → k, v [n, H, S, w].

    The encoder's final norm is applied here, so that a stack may be left after any layer.
    """

    def __init__(self, encoder: Encoder, layers: Sequence[DecoderLayer]) -> None:
        super().__init__()
        self.norm = encoder.layer_norm
        self.attend = nn.ModuleList(Attend(layer.encoder_attn) for layer in layers)

    def forward(self, first: Tensor, second: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = self.norm((first if second is None else torch.cat([first, second], 1))[0])
        attend = [_at(self.attend, i, Attend) for i in range(len(self.attend))]
        k = [a.split(a.k_proj(x)) for a in attend]
        v = [a.split(a.v_proj(x)) for a in attend]
        return torch.stack(k), torch.stack(v)


class Confidence(nn.Module):
    """States [Q, d] after a layer → logit [Q] of how sure the arg-max there is.

    Written like the similarity, without a matrix product: so every target keeps it in float32.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone(), requires_grad=False)
        self.bias = nn.Parameter(bias.clone(), requires_grad=False)

    def forward(self, y: Tensor) -> Tensor:
        return (y.float() * self.weight).sum(-1) + self.bias


class Foresight(nn.Module):
    """States [Q, d] after a layer → [Q, d]: mixed with what the last layer is imagined to make of them."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        width = len(tensors["mix.bias"])
        self.inner, self.outer, self.mix = (nn.Linear(width, width, bias) for bias in (True, False, True))
        for name, linear in (("inner", self.inner), ("outer", self.outer), ("mix", self.mix)):
            linear.load_state_dict({part: tensors[f"{name}.{part}"] for part in linear.state_dict()})

    def forward(self, y: Tensor) -> Tensor:
        imagined = y + self.outer(torch.tanh(self.inner(y)))
        share = torch.sigmoid(self.mix(y))
        mixed: Tensor = share * y + (1 - share) * imagined
        return mixed


class Ramp(nn.Linear):
    """States [Q, d] after a layer → [Q, d]: what the head reads of them instead, at that boundary."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(*tensors["weight"].shape)
        self.load_state_dict(dict(tensors))


class DecoderSegment(nn.Module):
    """One step of n decoder layers for Q rows.

    x [Q, d]; slots [n, 2, M, d] (keys, values of earlier steps), slot_bias [n, H, Q, M] (position
    bias; very negative where a slot is no ancestor of the row); own_bias [n, H, Q, Q] (this step's
    rows among themselves); cross_k, cross_v [n, H, S, w]; cross_bias [H, Q, S]
    → y [Q, d], score [Q], gap [Q], with a head logit [Q], kv_rows [n, Q, 2, d].
    """

    def __init__(self, layers: Sequence[DecoderLayer], confidence: Confidence | None = None) -> None:
        super().__init__()
        self.confidence = confidence
        self.layers = nn.ModuleList(layers)
        self.own = nn.ModuleList(Attend(layer.self_attn) for layer in layers)
        self.cross = nn.ModuleList(Attend(layer.encoder_attn) for layer in layers)

    def forward(
        self, x: Tensor, slots: Tensor, slot_bias: Tensor, own_bias: Tensor,
        cross_k: Tensor, cross_v: Tensor, cross_bias: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        y = before = x
        rows = []
        for i in range(len(self.layers)):
            layer = _at(self.layers, i, DecoderLayer)
            own, cross = _at(self.own, i, Attend), _at(self.cross, i, Attend)
            before = y
            h = layer.self_attn_layer_norm(y)
            k, v = own.k_proj(h), own.v_proj(h)
            rows.append(torch.stack([k, v], 1))
            keys = own.split(torch.cat([slots[i, 0], k], 0)).transpose(1, 2)
            values = own.split(torch.cat([slots[i, 1], v], 0))
            logits = torch.bmm(own.split(own.q_proj(h)), keys) + torch.cat([slot_bias[i], own_bias[i]], 2)
            y = y + normed(layer.self_attn_ln, own.merge(logits, values))
            q = cross.split(cross.q_proj(layer.encoder_attn_layer_norm(y)))
            logits = torch.bmm(q, cross_k[i].transpose(1, 2)) + cross_bias
            y = y + normed(layer.cross_attn_ln, cross.merge(logits, cross_v[i]))
            y = layer.feed_forward(y)
        signals: tuple[Tensor, ...] = similarity(y, before)
        if self.confidence is not None:
            signals = (*signals, self.confidence(y))
        return y, *signals, torch.stack(rows)


class Fill(nn.Module):
    """Exit states x [W, d] of tokens that never reached these layers → kv_rows [n, W, 2, d]."""

    def __init__(self, layers: Sequence[DecoderLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        rows = []
        for i in range(len(self.layers)):
            layer = _at(self.layers, i, DecoderLayer)
            h = layer.self_attn_layer_norm(x)
            rows.append(torch.stack([layer.self_attn.k_proj(h), layer.self_attn.v_proj(h)], 1))
        return torch.stack(rows)


class Embed(nn.Module):
    """ids [Q] → x [Q, d]. A decoder with position vectors in its input takes ids [2 Q]: the words' ids, then
    each word's step, below `steps`."""

    def __init__(self, decoder: Decoder, steps: int) -> None:
        super().__init__()
        self.table, self.norm = decoder.token_embedding, decoder.layernorm_embedding
        self.scale = decoder.embed_scale
        rows = decoder.embed_positions.weight[:steps].detach().clone()
        self.positions = None if decoder.config.disable_entangle else nn.Parameter(rows, requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        if self.positions is None:
            return normed(self.norm, self.scale * self.table(ids))
        rows = ids.shape[0] // 2
        at = F.embedding(ids[rows:], self.positions)
        return normed(self.norm, self.scale * self.table(ids[:rows]) + at)


class Head(nn.Module):
    """y [Q, d] → the k best ids [Q, k] and logits [Q, k], log-sum-exp [Q] of all, logit of eos [Q]."""

    def __init__(self, decoder: Decoder, k: int, eos: int) -> None:
        super().__init__()
        self.norm, self.k, self.eos = decoder.layer_norm, k, eos
        self.weight = decoder.projection_weight

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits = F.linear(self.norm(y), self.weight)
        return *candidates(logits, self.k), logits[:, self.eos]


class ChoiceHead(nn.Module):
    """y [Q, d] → of C answers, best first, their places [Q, C] and logits [Q, C], their log-sum-exp [Q], and
    as the logit of eos the same: nothing but the end can follow an answer."""

    def __init__(self, decoder: Decoder, answers: Sequence[int]) -> None:
        super().__init__()
        self.norm = decoder.layer_norm
        self.weight = nn.Parameter(decoder.projection_weight[list(answers)].clone(), requires_grad=False)

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits = F.linear(self.norm(y), self.weight)
        places, values, total = candidates(logits, self.weight.shape[0])
        return places, values, total, total + 0.0


def _fold_batch_norms(trunk: nn.Module) -> None:
    """Fold every BatchNorm into the convolution before it, in place."""
    for block in list(trunk.modules()):
        pairs = [(f"conv{i}", f"bn{i}") for i in (1, 2, 3)] + [("0", "1")]
        for conv_name, norm_name in pairs:
            conv, norm = getattr(block, conv_name, None), getattr(block, norm_name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(block, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(block, norm_name, nn.Identity())
