"""The encoder's segments as torch modules with the signatures of the host loop.

Batch is one. Inside a segment everything is of rank 2 and 3: [tokens, d] and [heads, tokens, w],
which every converter takes. Constant factors are folded into weights: the attention scale into
q_proj, the head scales into out_proj. Notation: S tokens, d width, H heads, w head width, n layers
of the segment.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mue_edge.loop.protocol import MASKED
from mue_edge.models.ofa.network.encoder import Encoder
from mue_edge.models.ofa.network.layers import Attention, EncoderLayer, each, normed
from mue_edge.models.outputs import flat_similarity


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


class Gate(nn.Module):
    """Features [1, P, d] of the stem → logits [n] of how likely each encoder depth suffices.

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
        kept = {id(module): module for name, module in encoder.named_children() if name != "embed_images"}
        self.encoder = copy.deepcopy(encoder, kept)  # only the trunk is copied
        del self.encoder.layers, self.encoder.embed_tokens  # large, and no part of a stem
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

    live_patches: Tensor

    def __init__(self, encoder: Encoder, patches: int) -> None:
        super().__init__()
        self.text = TextStem(encoder)
        self.register_buffer("live_patches", torch.ones(1, patches, 1))

    def forward(self, patches: Tensor, ids: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([patches, self.text(ids, live)], 1), torch.cat([self.live_patches, live], 1)


class TextStem(nn.Module):
    """ids [T], live [1, T, 1] → x [1, T, d], padding zeroed."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, live: Tensor) -> Tensor:
        return self.encoder.embed_words(ids[None]) * live


class _EncoderLayers(nn.Module):
    """Encoder layers of a segment."""

    def __init__(self, layers: Sequence[EncoderLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.attend = nn.ModuleList(Attend(layer.self_attn) for layer in layers)

    def run(
        self, x: Tensor, logits: Callable[[int, Attend, Tensor], Tensor], live: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [1, S, d] → y [1, S, d], score [1], distance [1]. logits: of a layer's number, its attention and
        normalised input [S, d], [H, S, S]."""
        y = before = x[0]
        layers = zip(each(self.layers, EncoderLayer), each(self.attend, Attend))
        for i, (layer, attend) in enumerate(layers):
            before, h = y, layer.self_attn_layer_norm(y)
            attended = attend.merge(logits(i, attend, h), attend.split(attend.v_proj(h)))
            y = layer.feed_forward(y + normed(layer.attn_ln, attended))
        score, distance = flat_similarity(y, before, None if live is None else live[0])
        return y[None], score, distance


class EncoderSegment(_EncoderLayers):
    """x [1, S, d] → y [1, S, d], score [1], distance [1].

    The absolute position bias comes as extra columns of queries and keys, pos_q and pos_k
    [H, S, w]; a relative one, where the stack has it, as rel [n, H, S, S]. Nothing attends to tokens
    that are 0 in live [1, S, 1].
    """

    def forward(
        self, x: Tensor, pos_q: Tensor, pos_k: Tensor, rel: Tensor | None = None, live: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        keys = pos_k.transpose(1, 2)
        hidden = None if live is None else (live.transpose(1, 2) - 1) * -MASKED

        def logits(i: int, attend: Attend, h: Tensor) -> Tensor:
            q = torch.cat([attend.split(attend.q_proj(h)), pos_q], 2)
            k = torch.cat([attend.split(attend.k_proj(h)).transpose(1, 2), keys], 1)
            product = torch.bmm(q, k)
            if rel is not None:
                product = product + rel[i]
            return product if hidden is None else product + hidden

        return self.run(x, logits, live)


class TextSegment(_EncoderLayers):
    """x [1, T, d], bias [n, H, T, T] (positions and padding), live [1, T, 1] → y, score, distance."""

    def forward(self, x: Tensor, bias: Tensor, live: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def logits(i: int, attend: Attend, h: Tensor) -> Tensor:
            keys = attend.split(attend.k_proj(h)).transpose(1, 2)
            return torch.bmm(attend.split(attend.q_proj(h)), keys) + bias[i]

        return self.run(x, logits, live)


def _fold_batch_norms(trunk: nn.Module) -> None:
    """Fold every BatchNorm into the convolution before it, in place."""
    for block in list(trunk.modules()):
        pairs = [(f"conv{i}", f"bn{i}") for i in (1, 2, 3)] + [("0", "1")]
        for conv_name, norm_name in pairs:
            conv, norm = getattr(block, conv_name, None), getattr(block, norm_name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(block, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(block, norm_name, nn.Identity())
