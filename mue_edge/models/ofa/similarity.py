"""Exit scores: how much one layer changed the hidden states, as a cosine (MuE, Tang et al. 2023)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

_EPS = 1e-8


def exit_scores(
    before: Tensor,
    after: Tensor,
    live: Tensor,
    *,
    over: Literal["batch", "sample", "rows"],
    similarity: Literal["flat", "mean"],
) -> Tensor:
    """Cosine of the states before and after a layer: float64 [B] for "sample" and "rows", [1] for "batch".

    before, after: [B, L, d], residual stream; live: boolean [B, L], tokens that take part. A group
    without a live token scores 1: nobody reads what it computes.
    """
    weight = live.double()
    a, b = before.double(), after.double()
    dot, aa, bb = (a * b).sum(-1), (a * a).sum(-1), (b * b).sum(-1)
    if similarity == "mean":
        cosine = dot / (aa.sqrt() * bb.sqrt()).clamp_min(_EPS)
        total, count = _gather(cosine * weight, over), _gather(weight, over)
        return torch.where(count > 0, total / count.clamp_min(1), 1.0)
    dot, aa, bb = (_gather(value * weight, over) for value in (dot, aa, bb))
    scores = dot / (aa.sqrt() * bb.sqrt()).clamp_min(_EPS)
    return torch.where(_gather(weight, over) > 0, scores, 1.0)


def _gather(values: Tensor, over: str) -> Tensor:
    return values.sum().reshape(1) if over == "batch" else values.sum(-1)
