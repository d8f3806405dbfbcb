"""Layers with and without exit tests: how a score is formed, and what one decision covers (MuE, Tang et al.
2023).

A score is the cosine of the states before and after a layer; thresholds are the policy's
(`mue_edge.loop.policy`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from mue_edge.errors import UsageError
from mue_edge.loop.policy import NEVER, ExitPolicy, Policy, should_exit
from mue_edge.loop.signals import SIMILARITY
from mue_edge.rules import RULES

_EPS = 1e-8
Over = Literal["batch", "sample", "rows"]


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
    decoder: Over = "rows"
    pads: Literal["included", "masked"] = "masked"
    similarity: Literal["flat", "mean"] = "flat"


MUE = MueOptions()
MUE_PUBLISHED = MueOptions(encoder="batch", decoder="batch", pads="included")


def options_for(policy: ExitPolicy | None, options: MueOptions | None) -> MueOptions:
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
                f"the torch model {reason} (rule {policy.rule!r}); run this policy on a bundle: mue-edge export"
            )
    if options is not None:
        return options
    return MUE_PUBLISHED if getattr(policy, "rule", None) == "mue-published" else MUE


def exit_scores(
    before: Tensor, after: Tensor, live: Tensor, *, over: Over, similarity: Literal["flat", "mean"]
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


@dataclass
class DecoderExit:
    """Decides after each decoder layer whether to stop, and keeps the scores of the step.

    live: boolean [R, L], tokens that take part; None: all.
    """

    policy: ExitPolicy | None
    options: MueOptions
    step: int
    max_length: int
    live: Tensor | None = None
    scores: list[float] = field(default_factory=list)

    def __call__(self, depth: int, before: Tensor, after: Tensor) -> bool:
        """States [R, L, d] before and after the layer."""
        live = torch.ones_like(before[..., 0], dtype=torch.bool) if self.live is None else self.live
        over: Over = "rows" if self.options.decoder == "rows" else "batch"
        score = exit_scores(before, after, live, over=over, similarity=self.options.similarity)
        self.scores.append(float(score.min()))
        if self.policy is None:
            return False
        threshold = self.policy.threshold("decoder", depth, self.step, self.max_length)
        return should_exit(self.scores[-1], None, threshold)


BiasOfLayer = Callable[[int], Tensor]


@dataclass(frozen=True)
class StackRun:
    """States [B, L, d] after 0, 1, … layers; by sample, its scores (if exits were tested) and the layers that
    it ran."""

    states: list[Tensor]
    scores: tuple[tuple[float, ...], ...]
    exits: tuple[int, ...]

    def state(self, depth: int) -> Tensor:
        """The state after `depth` layers, or after the last one that ran."""
        return self.states[min(depth, len(self.states) - 1)]


def run_layers(layers: nn.ModuleList, x: Tensor, bias: BiasOfLayer, mask: Tensor | None, depth: int | None) -> StackRun:
    """The first `depth` layers (None: all), without tests. Raises UsageError for a depth that is absent."""
    if depth is not None and not 0 <= depth <= len(layers):
        raise UsageError(f"depth {depth} is not within 0 … {len(layers)} encoder layers")
    states = [x]
    for i, layer in enumerate(list(layers)[:depth]):
        states.append(layer(states[-1], bias(i), mask))
    return StackRun(states, (), (len(states) - 1,) * len(x))


def run_with_exits(
    layers: nn.ModuleList,
    x: Tensor,
    bias: BiasOfLayer,
    mask: Tensor | None,
    padding: Tensor,
    threshold: Callable[[int], float] | None,
    options: MueOptions,
) -> StackRun:
    """`layers` until every sample has exited or the last one is done.

    x [B, L, d]; mask boolean [B, 1, 1, L] or None; padding boolean [B, L]; threshold: layers run so far → the
    score to exceed. A sample that has exited keeps its state while the others go on.
    """
    samples = len(x)
    live = ~padding if options.pads == "masked" else torch.ones_like(padding)
    states, active = [x], [True] * samples
    scores: list[list[float]] = [[] for _ in range(samples)]
    for i, layer in enumerate(layers):
        y = layer(x, bias(i), mask)
        score = exit_scores(x, y, live, over=options.encoder, similarity=options.similarity)
        x = torch.where(torch.tensor(active, device=x.device)[:, None, None], y, x)
        states.append(x)
        limit = NEVER if threshold is None else threshold(i + 1)
        for sample, value in enumerate(score.expand(samples).tolist()):
            if active[sample]:
                scores[sample].append(value)
                active[sample] = not should_exit(value, None, limit)
        if not any(active):
            break
    return StackRun(states, tuple(map(tuple, scores)), tuple(map(len, scores)))
