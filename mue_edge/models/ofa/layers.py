"""Encoder and decoder layers: pre-norm, with OFA's extra norms, head scales and residual scales.

Attention is written out (matmul, softmax): fused kernels are slow to differentiate on CPUs and
hide the joints at which layers are exported. Shapes: B rows, L queries, S keys, H heads of width w.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A projection with bias, initialised as fairseq does (Xavier, zero bias)."""
    module = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(module.weight)
    nn.init.zeros_(module.bias)
    return module


def embedding(rows: int, dim: int) -> nn.Embedding:
    """A table initialised with standard deviation dim^-1/2, as fairseq does."""
    table = nn.Embedding(rows, dim)
    nn.init.normal_(table.weight, std=dim**-0.5)
    return table


def tables(layers: int, rows: int, heads: int) -> nn.ModuleList:
    """One relative table a layer, zero at first: no position is preferred before training."""
    made = [nn.Embedding(rows, heads) for _ in range(layers)]
    for table in made:
        nn.init.zeros_(table.weight)
    return nn.ModuleList(made)


class Attention(nn.Module):
    """Multi-head attention whose keys and values may come from a wider or narrower stream."""

    def __init__(self, dim: int, heads: int, scale_factor: float, scale_heads: bool, key_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads * scale_factor) ** -0.5
        self.q_proj = linear(dim, dim)
        self.k_proj = linear(key_dim, dim)
        self.v_proj = linear(key_dim, dim)
        self.out_proj = linear(dim, dim)
        self.c_attn = nn.Parameter(torch.ones(heads)) if scale_heads else None

    def split_heads(self, x: Tensor) -> Tensor:
        """[B, L, d] → [B, H, L, w]."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def keys_values(self, x: Tensor) -> KeysValues:
        """Keys and values [B, H, S, w] of a stream [B, S, key_dim]."""
        return self.split_heads(self.k_proj(x)), self.split_heads(self.v_proj(x))

    def forward(self, x: Tensor, keys_values: KeysValues, bias: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, L, d] → [B, L, d].

        `bias` is added to the logits [B, H, L, S]; then keys where the boolean `mask` is true are
        hidden. Both broadcast; so do the rows of `keys_values`.
        """
        keys, values = keys_values
        logits = torch.matmul(self.split_heads(self.q_proj(x) * self.scale), keys.transpose(2, 3)) + bias
        if mask is not None:
            # The smallest number rather than -inf: the same zeros, and no NaN if all keys are hidden.
            logits = logits.masked_fill(mask, torch.finfo(logits.dtype).min)
        heads = torch.matmul(torch.softmax(logits, -1, dtype=torch.float32).to(logits.dtype), values)
        if self.c_attn is not None:
            heads = heads * self.c_attn[:, None, None]
        out: Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """The second half of every layer; its parts stand directly in the layer, as in the checkpoints."""

    def __init__(self, dim: int, hidden: int, scale_fc: bool, scale_resids: bool) -> None:
        super().__init__()
        self.final_layer_norm = nn.LayerNorm(dim)
        self.fc1 = linear(dim, hidden)
        self.ffn_layernorm = nn.LayerNorm(hidden) if scale_fc else None
        self.fc2 = linear(hidden, dim)
        self.w_resid = nn.Parameter(torch.ones(dim)) if scale_resids else None

    def feed_forward(self, x: Tensor) -> Tensor:
        """[B, L, d] → [B, L, d]: [w_resid *] x + fc2(norm(gelu(fc1(norm(x)))))."""
        y = F.gelu(self.fc1(self.final_layer_norm(x)))
        if self.ffn_layernorm is not None:
            y = self.ffn_layernorm(y)
        residual = x if self.w_resid is None else self.w_resid * x
        out: Tensor = residual + self.fc2(y)
        return out


class EncoderLayer(FeedForward):
    """Self-attention and feed-forward over [B, S, d]."""

    def __init__(
        self, dim: int, hidden: int, heads: int, scale_factor: float,
        scale_attn: bool, scale_fc: bool, scale_heads: bool, scale_resids: bool,
    ) -> None:  # fmt: skip
        super().__init__(dim, hidden, scale_fc, scale_resids)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.self_attn = Attention(dim, heads, scale_factor, scale_heads, dim)
        self.attn_ln = nn.LayerNorm(dim) if scale_attn else None

    def forward(self, x: Tensor, bias: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, S, d] → [B, S, d] with `bias` [H, S, S] and boolean `mask` [B, 1, 1, S] (true: hidden)."""
        h = self.self_attn_layer_norm(x)
        h = self.self_attn(h, self.self_attn.keys_values(h), bias, mask)
        if self.attn_ln is not None:
            h = self.attn_ln(h)
        return self.feed_forward(x + h)


class DecoderLayer(FeedForward):
    """Self-attention over the words so far, cross-attention to the encoder, feed-forward."""

    def __init__(
        self, dim: int, hidden: int, heads: int, scale_factor: float,
        scale_attn: bool, scale_fc: bool, scale_heads: bool, scale_resids: bool, encoder_dim: int,
    ) -> None:  # fmt: skip
        super().__init__(dim, hidden, scale_fc, scale_resids)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.self_attn = Attention(dim, heads, scale_factor, scale_heads, dim)
        self.self_attn_ln = nn.LayerNorm(dim) if scale_attn else None
        self.encoder_attn_layer_norm = nn.LayerNorm(dim)
        self.encoder_attn = Attention(dim, heads, scale_factor, scale_heads, encoder_dim)
        self.cross_attn_ln = nn.LayerNorm(dim) if scale_attn else None

    def self_keys_values(self, x: Tensor) -> KeysValues:
        """What this layer would cache for inputs [B, L, d]: keys and values [B, H, L, w]."""
        return self.self_attn.keys_values(self.self_attn_layer_norm(x))

    def forward(
        self, x: Tensor, past: KeysValues | None, self_bias: Tensor, self_mask: Tensor | None,
        cross: KeysValues, cross_bias: Tensor, cross_mask: Tensor | None,
    ) -> tuple[Tensor, KeysValues]:  # fmt: skip
        """[B, L, d] → ([B, L, d], self-attention keys and values of past and present [B, H, past + L, w]).

        `self_bias` [H, L, past + L]; `cross_bias` [H, L, S]; masks are boolean (true: hidden) and broadcast.
        """
        h = self.self_attn_layer_norm(x)
        keys, values = self.self_attn.keys_values(h)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        h = self.self_attn(h, (keys, values), self_bias, self_mask)
        x = x + (h if self.self_attn_ln is None else self.self_attn_ln(h))
        h = self.encoder_attn(self.encoder_attn_layer_norm(x), cross, cross_bias, cross_mask)
        x = x + (h if self.cross_attn_ln is None else self.cross_attn_ln(h))
        return self.feed_forward(x), (keys, values)
