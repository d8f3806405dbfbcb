"""Exit tests of the torch model: how a score is formed, and what one decision covers (MuE, Tang et al. 2023).

A score is the cosine of the states before and after a layer; thresholds are the policy's
(`mue_edge.loop.policy`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mue_edge.errors import UsageError
from mue_edge.loop.policy import Decider, Policy, exits
from mue_edge.loop.signals import SIMILARITY
from mue_edge.rules import RULES

_EPS = 1e-8


@dataclass(frozen=True)
class MueOptions:
    """How an exit score is formed.

    encoder, decoder: what one decision covers. "batch": one vector over all samples (and beams), as
        published; "sample": each sample by itself, its beams as one vector; "rows" (decoder only):
        a step exits when every row, each by itself, would.
    pads: whether padded tokens take part.
    similarity: "flat" is the cosine of all tokens as one vector, "mean" the mean of the tokens' cosines.
    """

    encoder: Literal["batch", "sample"] = "sample"
    decoder: Literal["batch", "sample", "rows"] = "rows"
    pads: Literal["included", "masked"] = "masked"
    similarity: Literal["flat", "mean"] = "flat"


MUE = MueOptions()
MUE_PUBLISHED = MueOptions(encoder="batch", decoder="batch", pads="included")


def options_for(policy: Decider | None, options: MueOptions | None) -> MueOptions:
    """`options` if given; else those that belong to the policy's rule.

    Raises UsageError for a rule whose tests read what the torch model does not measure.
    """
    if isinstance(policy, Policy):
        reason = ""
        if policy.signal("decoder") != SIMILARITY:
            reason = f"tests similarity only, not {policy.signal('decoder')}"
        elif RULES[policy.rule].keep is not None:
            reason = "leaves no layer out"
        if reason:
            raise UsageError(
                f"the torch model {reason} (rule {policy.rule!r}); "
                "run this policy on a bundle: mue-edge export"
            )
    if options is not None:
        return options
    return MUE_PUBLISHED if getattr(policy, "rule", None) == "mue-published" else MUE


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

    def total(values: Tensor) -> Tensor:
        return values.sum().reshape(1) if over == "batch" else values.sum(-1)

    weight = live.double()
    a, b = before.double(), after.double()
    dot, aa, bb = (a * b).sum(-1), (a * a).sum(-1), (b * b).sum(-1)
    count = total(weight)
    if similarity == "mean":
        cosine = dot / (aa.sqrt() * bb.sqrt()).clamp_min(_EPS)
        scores = total(cosine * weight) / count.clamp_min(1)
    else:
        dot, aa, bb = (total(value * weight) for value in (dot, aa, bb))
        scores = dot / (aa.sqrt() * bb.sqrt()).clamp_min(_EPS)
    return torch.where(count > 0, scores, 1.0)


class DecoderExit:
    """Decides after each decoder layer whether to stop, and keeps the scores of the step."""

    def __init__(
        self,
        policy: Decider | None,
        options: MueOptions,
        step: int,
        max_length: int,
        live: Tensor | None = None,
    ) -> None:
        """live: boolean [R, L], tokens that take part; None: all."""
        self.policy, self.options, self.step, self.max_length = policy, options, step, max_length
        self.live = live
        self.scores: list[float] = []

    def __call__(self, depth: int, before: Tensor, after: Tensor) -> bool:
        """States [R, L, d] before and after the layer."""
        live = torch.ones_like(before[..., 0], dtype=torch.bool) if self.live is None else self.live
        over: Literal["rows", "batch"] = "rows" if self.options.decoder == "rows" else "batch"
        score = exit_scores(before, after, live, over=over, similarity=self.options.similarity)
        self.scores.append(float(score.min()))
        if self.policy is None:
            return False
        threshold = self.policy.threshold("decoder", depth, self.step, self.max_length)
        return exits(self.scores[-1], None, threshold)
