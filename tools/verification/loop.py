"""Verification level `loop` on many pictures: a bundle against the torch model itself.

(a) forced replay of the model's decisions: score errors and tokens; (b) free run: how many captions
differ, and how close to the threshold the first differing decision was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mue_edge.bundle.folder import Bundle
from mue_edge.loop.driver import Runtime
from mue_edge.loop.policy import NEVER, ExitPolicy, Policy
from mue_edge.loop.protocol import DECODER, Layout, Outcome
from mue_edge.loop.replay import DecisionLog, ScoreEntry, replay, run
from mue_edge.loop.search import SearchSettings

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class LoopProof:
    """Figures of one bundle and one policy over `pictures` pictures.

    score errors are those of the forced replay; `first_difference_gaps` hold |score − Θ| of the
    first differing decision of each caption whose exits differ in the free run. `mean_layers` is
    the decoder layers a token of the free run.
    """

    policy: dict[str, Any]
    pictures: int
    scores: int
    score_error_max: float
    score_error_p99: float
    replay_same_tokens: int
    free_same_captions: int
    free_same_exits: int
    mean_layers: float
    mean_image_layers: float
    first_difference_gaps: list[float] = field(default_factory=list)

    def holds(self, precision: str) -> bool:
        """Design 5's criteria: tokens equal in every replay, fp32 scores within 1e-5; ≤ 1 % of captions
        differ (fp16: 3 %), and those by decisions within 5 × the p99 score error of their threshold."""
        close = all(gap <= 5 * self.score_error_p99 for gap in self.first_difference_gaps)
        score, share = {"fp32": (1e-5, 0.99), "fp16": (math.inf, 0.97)}.get(precision, (0.0, 2.0))
        replayed = self.score_error_max <= score and self.replay_same_tokens == self.pictures
        return replayed and close and self.free_same_captions >= share * self.pictures


@dataclass(frozen=True)
class AtBoundaries(ExitPolicy):
    """A policy for the torch model, which tests after every layer: exits at the cut's boundaries only."""

    policy: ExitPolicy
    layout: Layout

    def threshold(self, stack: str, depth: int, step: int = 0, max_length: int = 16) -> float:
        if depth not in self.layout.stack(stack).ends:
            return NEVER
        return self.policy.threshold(stack, depth, step, max_length)


def reference_log(
    model: Any, prompt: tuple[int, ...], pixels: Pixels, settings: SearchSettings, policy: ExitPolicy
) -> DecisionLog:
    """The decisions of `Model.generate` on one picture."""
    best = model.generate(
        torch.tensor([prompt]),
        torch.from_numpy(pixels),
        policy=policy,
        beam=settings.beam,
        max_length=settings.max_length,
        min_length=settings.min_length,
        no_repeat_ngram=settings.no_repeat_ngram,
        length_penalty=settings.length_penalty,
    )[0][0]
    scores = [
        ScoreEntry(stack, depth, 0, (score,))
        for stack, values in best.encoder_scores.items()
        for depth, score in enumerate(values, 1)
    ]
    for step, values in enumerate(best.exit_scores):
        scores += [ScoreEntry(DECODER, depth, step, (score,)) for depth, score in enumerate(values, 1)]
    return DecisionLog(best.encoder_exits, best.exits, best.tokens, best.score, tuple(scores))


def prove(
    bundle: Bundle,
    runtime: Runtime,
    model: Any,
    prompt: tuple[int, ...],
    pictures: Iterable[Pixels],
    policy: Policy,
    progress: Callable[[int], None] = lambda done: None,
) -> LoopProof:
    """Compare on every picture ([1, 3, H, W] as the bundle takes them)."""
    layout, settings = bundle.manifest.layout, bundle.manifest.search
    errors: list[float] = []
    gaps: list[float] = []
    count = replayed = captions = same_exits = 0
    layers: list[int] = []
    image_layers: list[int] = []
    for count, pixels in enumerate(pictures, 1):
        log = reference_log(model, prompt, pixels, settings, AtBoundaries(policy, layout))
        runtime.set_pixels(pixels)
        difference = replay(log, layout, settings, runtime)
        errors += difference.score_errors
        replayed += difference.same_tokens
        outcome = run(layout, settings, policy, runtime)
        captions += outcome.hypotheses[0].tokens == log.tokens
        gap = first_difference(log, outcome)
        same_exits += gap is None
        gaps += [] if gap is None else [gap]
        layers += [step.depth for step in outcome.steps]
        image_layers.append(outcome.depths[layout.picture.name])
        progress(count)
    return LoopProof(
        policy.to_json(),
        count,
        len(errors),
        max(errors),
        float(np.percentile(errors, 99)),
        replayed,
        captions,
        same_exits,
        float(np.mean(layers)),
        float(np.mean(image_layers)),
        gaps,
    )


def first_difference(log: DecisionLog, outcome: Outcome) -> float | None:
    """|score − Θ| of the first decision that differs from the log's exits, or None if all agree."""
    for decision in outcome.decisions:
        if decision.stack == DECODER:
            if decision.step >= len(log.decoder):
                return abs(min(decision.scores) - decision.threshold)
            wanted = log.decoder[decision.step]
        else:
            wanted = log.depths[decision.stack]
        if decision.exit != (decision.depth >= wanted) and decision.scores:
            return abs(min(decision.scores) - decision.threshold)
    return None
