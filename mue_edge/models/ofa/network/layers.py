"""Encoder and decoder layers: pre-norm, with OFA's extra norms, head scales and residual scales.

Attention is written out (matmul, softmax): fused kernels are slow to differentiate on CPUs and
hide the joints at which layers are exported. Shapes: B rows, L queries, S keys, H heads of width w.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mue_edge.models.ofa.config import OFAConfig

KeysValues = tuple[Tensor, Tensor]
Part = TypeVar("Part", bound=nn.Module)


def each(modules: Iterable[nn.Module], kind: type[Part]) -> list[Part]:
    """The modules of that class, all of them where a list is of one: so that their types are known."""
    return [module for module in modules if isinstance(module, kind)]


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


def relative_tables(layers: int, rows: int, heads: int) -> nn.ModuleList:
    """One table of relative positions a layer, zero at first: no position is preferred before training."""
    tables = [nn.Embedding(rows, heads) for _ in range(layers)]
    for table in tables:
        nn.init.zeros_(table.weight)
    return nn.ModuleList(tables)


def optional_norm(dim: int, present: bool) -> nn.LayerNorm | None:
    return nn.LayerNorm(dim) if present else None


def normed(norm: nn.LayerNorm | None, x: Tensor) -> Tensor:
    """`x`, through a norm that some configurations lack."""
    return x if norm is None else norm(x)


def appended(past: KeysValues | None, keys: Tensor, values: Tensor) -> KeysValues:
    """Keys and values [B, H, past + L, w] of earlier words and of L new ones."""
    if past is None:
        return keys, values
    return torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)


class Attention(nn.Module):
    """Multi-head attention whose keys and values may come from a wider or narrower stream."""

    def __init__(self, config: OFAConfig, dim: int, heads: int, key_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads * config.attn_scale_factor) ** -0.5
        self.q_proj = linear(dim, dim)
        self.k_proj = linear(key_dim, dim)
        self.v_proj = linear(key_dim, dim)
        self.out_proj = linear(dim, dim)
        self.c_attn = nn.Parameter(torch.ones(heads)) if config.scale_heads else None

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

    def __init__(self, config: OFAConfig, dim: int, hidden: int) -> None:
        super().__init__()
        self.final_layer_norm = nn.LayerNorm(dim)
        self.fc1 = linear(dim, hidden)
        self.ffn_layernorm = optional_norm(hidden, config.scale_fc)
        self.fc2 = linear(hidden, dim)
        self.w_resid = nn.Parameter(torch.ones(dim)) if config.scale_resids else None

    def feed_forward(self, x: Tensor) -> Tensor:
        """[..., d] → [..., d]: fc2(norm(gelu(fc1(norm(x))))) + [w_resid *] x."""
        h = normed(self.ffn_layernorm, F.gelu(self.fc1(self.final_layer_norm(x))))
        out: Tensor = self.fc2(h) + (x if self.w_resid is None else self.w_resid * x)
        return out


class EncoderLayer(FeedForward):
    """Self-attention and feed-forward over [B, S, d]."""

    def __init__(self, config: OFAConfig) -> None:
        dim = config.encoder_dim
        super().__init__(config, dim, config.encoder_ffn)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.self_attn = Attention(config, dim, config.encoder_heads, dim)
        self.attn_ln = optional_norm(dim, config.scale_attn)

    def forward(self, x: Tensor, bias: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, S, d] → [B, S, d] with `bias` [H, S, S] and boolean `mask` [B, 1, 1, S] (true: hidden)."""
        h = self.self_attn_layer_norm(x)
        h = self.self_attn(h, self.self_attn.keys_values(h), bias, mask)
        return self.feed_forward(x + normed(self.attn_ln, h))


class DecoderLayer(FeedForward):
    """Self-attention over the words so far, cross-attention to the encoder, feed-forward."""

    def __init__(self, config: OFAConfig) -> None:
        dim, heads = config.decoder_dim, config.decoder_heads
        super().__init__(config, dim, config.decoder_ffn)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.self_attn = Attention(config, dim, heads, dim)
        self.self_attn_ln = optional_norm(dim, config.scale_attn)
        self.encoder_attn_layer_norm = nn.LayerNorm(dim)
        self.encoder_attn = Attention(config, dim, heads, config.encoder_dim)
        self.cross_attn_ln = optional_norm(dim, config.scale_attn)

    def self_keys_values(self, x: Tensor, past: KeysValues | None) -> KeysValues:
        """What this layer caches [B, H, past + L, w] after inputs [B, L, d]."""
        return appended(past, *self.self_attn.keys_values(self.self_attn_layer_norm(x)))

    def forward(
        self,
        x: Tensor,
        past: KeysValues | None,
        self_bias: Tensor,
        self_mask: Tensor | None,
        cross: KeysValues,
        cross_bias: Tensor,
        cross_mask: Tensor | None,
    ) -> tuple[Tensor, KeysValues]:
        """[B, L, d] → ([B, L, d], self-attention keys and values of past and present [B, H, past + L, w]).

        `self_bias` [H, L, past + L]; `cross_bias` [H, L, S]; masks are boolean (true: hidden) and broadcast.
        """
        h = self.self_attn_layer_norm(x)
        own = appended(past, *self.self_attn.keys_values(h))
        x = x + normed(self.self_attn_ln, self.self_attn(h, own, self_bias, self_mask))
        h = self.encoder_attn(self.encoder_attn_layer_norm(x), cross, cross_bias, cross_mask)
        return self.feed_forward(x + normed(self.cross_attn_ln, h)), own
