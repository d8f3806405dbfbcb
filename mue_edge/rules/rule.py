"""What an exit rule is made of, and the decay schedule that several share. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mue_edge.signals import SIMILARITY

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


# Policy, stack, depth, step, max_length → the score that the exit test there must exceed.
Threshold = Callable[[Parameters, str, int, int, int], float]


@dataclass(frozen=True)
class Rule:
    """`signals`: what a stack's tests read (`mue_edge.signals`), similarity where nothing is said.
    `calibrated`: whether calibration tries thresholds for it."""

    threshold: Threshold
    signals: Mapping[str, str] = field(default_factory=dict)
    calibrated: bool = True

    def signal(self, stack: str) -> str:
        return self.signals.get(stack, SIMILARITY)


def decayed(theta: float, step: int, n: int, beta: float, tau: float) -> float:
    """Θ(t) = βθ + (1 − β)·e^(−τt/N), the schedule of the paper's slides; t counts from 0."""
    return beta * theta + (1 - beta) * math.exp(-tau * step / n)


def scheduled(policy: Parameters, stack: str, depth: int, step: int, max_length: int) -> float:
    """θ of the boundary; in the decoder it decays, after a warm-up in which nothing exits."""
    theta, n = policy.theta(stack, depth), policy.horizon or max_length + 1
    if theta is None or stack != "decoder":
        return NEVER if theta is None else theta
    if step < policy.warmup * n:
        return NEVER
    value = decayed(theta, step, n, policy.beta, policy.tau)
    return NEVER if value >= 1 else value


def no_test(policy: Parameters, stack: str, depth: int, step: int, max_length: int) -> float:
    """Scores decide nothing."""
    return NEVER
