"""What an exit rule is made of, and the decay schedule that several share. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mue_edge.loop.protocol import DECODER
from mue_edge.loop.signals import SIMILARITY

NEVER, ALWAYS = math.inf, -math.inf


class Parameters(Protocol):
    """What a rule sees of a policy; see `policy.Policy`."""

    @property
    def beta(self) -> float: ...
    @property
    def tau(self) -> float: ...
    @property
    def horizon(self) -> int | None: ...
    @property
    def warmup(self) -> float: ...

    def theta(self, stack: str, depth: int) -> float | None: ...


# Layers that stay, depths at which a stack's segments end → the segments that run, counted from 0.
Keep = Callable[[int, Sequence[int]], tuple[int, ...]]
# Policy, stack, depth, step, max_length → the score that the exit test there must exceed.
Threshold = Callable[[Parameters, str, int, int, int], float]


@dataclass(frozen=True)
class Rule:
    """`encoder`, `decoder`: what the tests of such stacks read (`mue_edge.loop.signals`), None where no
    score is ever tested. `calibrated`: whether calibration tries it. `beta`: θ's weight in the decay,
    where the rule and not the policy fixes it. `heads`: what `mue-edge train --heads RULE` trains for it
    (`mue_edge.models.heads`). `keep`: a policy's depths are numbers of layers that stay; these segments run.
    """

    threshold: Threshold
    encoder: str | None = SIMILARITY
    decoder: str | None = SIMILARITY
    calibrated: bool = True
    beta: float | None = None
    heads: str | None = None
    keep: Keep | None = None

    def signal(self, stack: str) -> str | None:
        return self.decoder if stack == DECODER else self.encoder

    @property
    def by_score(self) -> bool:
        """Whether scores decide anything."""
        return self.threshold is not no_test


def decayed(theta: float, step: int, n: int, beta: float, tau: float) -> float:
    """Θ(t) = βθ + (1 − β)·e^(−τt/N), the schedule of the paper's slides; t counts from 0."""
    return beta * theta + (1 - beta) * math.exp(-tau * step / n)


def scheduled(policy: Parameters, stack: str, depth: int, step: int, max_length: int) -> float:
    """θ of the boundary; in the decoder it decays, after a warm-up in which nothing exits."""
    theta, n = policy.theta(stack, depth), policy.horizon or max_length + 1
    if theta is None or stack != DECODER:
        return NEVER if theta is None else theta
    if step < policy.warmup * n:
        return NEVER
    value = decayed(theta, step, n, policy.beta, policy.tau)
    return NEVER if value >= 1 else value


def in_decoder(threshold: Threshold) -> Threshold:
    """The same in the decoder, and no test elsewhere."""

    def only(policy: Parameters, stack: str, depth: int, step: int, max_length: int) -> float:
        return threshold(policy, stack, depth, step, max_length) if stack == DECODER else NEVER

    return only


def constant(policy: Parameters, stack: str, depth: int, step: int, max_length: int) -> float:
    """θ of the boundary at every step."""
    theta = policy.theta(stack, depth)
    return NEVER if theta is None else theta


def no_test(policy: Parameters, stack: str, depth: int, step: int, max_length: int) -> float:
    """Scores decide nothing."""
    return NEVER
