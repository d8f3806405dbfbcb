"""What segments of every family put out beside their states: exit scores and a head's candidates, written so
that every converter takes it and every target keeps it in float32."""

from __future__ import annotations

import torch
from torch import Tensor

from mue_edge.models.heads import TEMPERATURES


def similarity(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and distance over the last dimension, in float32: 1 − cos = ‖a/‖a‖ − b/‖b‖‖² / 2.

    This form keeps the distance's digits where the cosine is all but 1.
    """
    a, b = a.float(), b.float()
    unit_a = a * torch.rsqrt((a * a).sum(-1, keepdim=True) + 1e-12)
    unit_b = b * torch.rsqrt((b * b).sum(-1, keepdim=True) + 1e-12)
    difference = unit_a - unit_b
    distance = 0.5 * (difference * difference).sum(-1)
    return 1 - distance, distance


def flat_similarity(a: Tensor, b: Tensor, live: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cosine and distance [1] of [S, d] and [S, d] as one vector each, of live rows only."""
    if live is not None:
        a, b = a * live, b * live
    return similarity(a.reshape(1, -1), b.reshape(1, -1))


def candidates(logits: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k best ids [Q, k] and logits [Q, k] of [Q, V], and the log-sum-exp [Q] of all."""
    values, ids = torch.topk(logits, k, dim=-1)
    # Written out: some converters have no logsumexp.
    total = torch.log(torch.exp(logits - values[:, :1]).sum(-1)) + values[:, 0]
    return ids, values, total


def sureness(logits: Tensor) -> Tensor:
    """Of a choice by logits [Q, N], at each of TEMPERATURES [Q, T]: the sum of squared probabilities, 1 for one
    word, 1/n for n alike. XNNPACK, which shall have the whole segment, knows no top-k."""
    likely = [torch.softmax(logits * (1 / temperature), -1).float() for temperature in TEMPERATURES]
    return torch.stack([(p * p).sum(-1) for p in likely], -1)
