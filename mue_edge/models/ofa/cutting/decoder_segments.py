"""The decoder's segments as torch modules with the signatures of the host loop, and its heads.

As in the encoder's segments batch is one and rank 2 or 3. Notation: S tokens of the encoder, d width, H
heads, w head width, n layers of the segment, Q decoder rows, M cache slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mue_edge.models.ofa.cutting.encoder_segments import Attend
from mue_edge.models.ofa.network.decoder import Decoder
from mue_edge.models.ofa.network.encoder import Encoder
from mue_edge.models.ofa.network.layers import DecoderLayer, each, normed
from mue_edge.models.outputs import candidates, similarity, sureness


class CrossKV(nn.Module):
    """Encoder states [1, S, d] (image_x and text_x, or encoder_x) → k, v [n, H, S, w].

    The encoder's final norm is applied here, so that a stack may exit after any layer.
    """

    def __init__(self, encoder: Encoder, layers: Sequence[DecoderLayer]) -> None:
        super().__init__()
        self.norm = encoder.layer_norm
        self.attend = nn.ModuleList(Attend(layer.encoder_attn) for layer in layers)

    def forward(self, first: Tensor, second: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = self.norm((first if second is None else torch.cat([first, second], 1))[0])
        attend = each(self.attend, Attend)
        k = [a.split(a.k_proj(x)) for a in attend]
        v = [a.split(a.v_proj(x)) for a in attend]
        return torch.stack(k), torch.stack(v)


class Confidence(nn.Module):
    """States [Q, d] after a layer → logit [Q] of how sure the arg-max there is: a vector's, and how sure a choice
    between a few words would be, if the heads know some.

    The vector is written like the similarity, without a matrix product: so every target keeps it in float32.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(tensors[name].clone(), requires_grad=False) for name in ("weight", "bias")
        )
        self.words = Words(tensors) if "sure" in tensors else None

    def forward(self, y: Tensor) -> Tensor:
        logit = (y.float() * self.weight).sum(-1) + self.bias
        return logit if self.words is None else logit + self.words(y)


class Words(nn.Module):
    """States [Q, d] → [Q]: how sure a choice between a few words is, at each temperature, weighted."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        rows, width = tensors["words.weight"].shape
        self.norm, self.rows = nn.LayerNorm(width), nn.Linear(width, rows)
        self.rows.load_state_dict({name: tensors[f"words.{name}"] for name in ("weight", "bias")})
        self.weights = nn.Parameter(tensors["sure"].clone(), requires_grad=False)

    def forward(self, y: Tensor) -> Tensor:
        weighted: Tensor = (sureness(self.rows(self.norm(y))) * self.weights).sum(-1)
        return weighted


class Imitation(nn.Module):
    """States [Q, d] after a layer → [Q, d]: mixed with an imitation of the last layer's."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        width = len(tensors["mix.bias"])
        self.inner, self.outer, self.mix = (nn.Linear(width, width, bias) for bias in (True, False, True))
        for name, linear in (("inner", self.inner), ("outer", self.outer), ("mix", self.mix)):
            linear.load_state_dict({part: tensors[f"{name}.{part}"] for part in linear.state_dict()})

    def forward(self, y: Tensor) -> Tensor:
        imitated = y + self.outer(torch.tanh(self.inner(y)))
        share = torch.sigmoid(self.mix(y))
        mixed: Tensor = share * y + (1 - share) * imitated
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
    → y [Q, d], score [Q], distance [Q], with a head logit [Q], kv_rows [n, Q, 2, d].
    """

    def __init__(self, layers: Sequence[DecoderLayer], confidence: Confidence | None = None) -> None:
        super().__init__()
        self.confidence = confidence
        self.layers = nn.ModuleList(layers)
        self.own = nn.ModuleList(Attend(layer.self_attn) for layer in layers)
        self.cross = nn.ModuleList(Attend(layer.encoder_attn) for layer in layers)

    def forward(
        self,
        x: Tensor,
        slots: Tensor,
        slot_bias: Tensor,
        own_bias: Tensor,
        cross_k: Tensor,
        cross_v: Tensor,
        cross_bias: Tensor,
    ) -> tuple[Tensor, ...]:
        y = before = x
        rows = []
        attends = zip(each(self.own, Attend), each(self.cross, Attend))
        for i, (layer, (own, cross)) in enumerate(zip(each(self.layers, DecoderLayer), attends)):
            before, h = y, layer.self_attn_layer_norm(y)
            k, v = own.k_proj(h), own.v_proj(h)
            rows.append(torch.stack([k, v], 1))
            keys = own.split(torch.cat([slots[i, 0], k], 0)).transpose(1, 2)
            values = own.split(torch.cat([slots[i, 1], v], 0))
            logits = torch.bmm(own.split(own.q_proj(h)), keys) + torch.cat([slot_bias[i], own_bias[i]], 2)
            y = y + normed(layer.self_attn_ln, own.merge(logits, values))
            q = cross.split(cross.q_proj(layer.encoder_attn_layer_norm(y)))
            logits = torch.bmm(q, cross_k[i].transpose(1, 2)) + cross_bias
            y = layer.feed_forward(y + normed(layer.cross_attn_ln, cross.merge(logits, cross_v[i])))
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
        for layer in each(self.layers, DecoderLayer):
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
    """y [Q, d] → of C answers, best first, their indices [Q, C] and logits [Q, C], their log-sum-exp [Q], and
    as the logit of eos the same: nothing but the end can follow an answer."""

    def __init__(self, decoder: Decoder, answers: Sequence[int]) -> None:
        super().__init__()
        self.norm = decoder.layer_norm
        self.weight = nn.Parameter(decoder.projection_weight[list(answers)].clone(), requires_grad=False)

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits = F.linear(self.norm(y), self.weight)
        indices, values, total = candidates(logits, self.weight.shape[0])
        return indices, values, total, total + 0.0
