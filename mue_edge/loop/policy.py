"""When to exit a stack early: policies, their thresholds and the exit test.

A policy answers one question, `threshold(stack, depth, step, max_length)`: which exit score
must be exceeded to exit `stack` after `depth` layers. `inf` means never, `-inf` always, so
that neither needs a score. Stacks are those of a bundle's layout (`protocol.Stack`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mue_edge import schema
from mue_edge.errors import UsageError, suggestion
from mue_edge.loop.protocol import DECODER
from mue_edge.loop.signals import SIGNALS, SIMILARITY
from mue_edge.reading import finite
from mue_edge.rules import RULES
from mue_edge.rules.rule import ALWAYS, NEVER

__all__ = ["ALWAYS", "NEVER", "ExitPolicy", "ForcedExits", "Policy", "StackExit", "should_exit"]

SCHEMA = 2


class ExitPolicy:
    """What the loop needs of a policy; by default it tests similarity, and every segment may run."""

    def threshold(self, stack: str, depth: int, step: int = 0, max_length: int = 16) -> float:
        """The score that the exit test after `depth` layers must exceed (strictly)."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """What records call it."""
        return type(self).__name__

    def signal(self, stack: str) -> str | None:
        """Name of what the stack's exit tests read (`mue_edge.loop.signals`); None: no score."""
        return SIMILARITY

    @property
    def head_states(self) -> str:
        """What the head reads at a decoder boundary; see `signals.Signal.states`."""
        return "y"

    def stages(self, stack: str, ends: Sequence[int]) -> tuple[int, ...]:
        """Which of the segments that end at these depths may run, the last one among them."""
        return tuple(range(len(ends)))


@dataclass(frozen=True)
class StackExit:
    """When one stack is exited.

    theta: the score to exceed; None, or 1 and more, never exits. thetas: one for every boundary (the first
    after one layer), in the place of `theta`. depth: the stack ends there, whatever its scores are: all that
    the rule "fixed" knows; a rule that leaves layers out reads in it how many stay.
    """

    theta: float | None = None
    thetas: tuple[float | None, ...] | None = None
    depth: int | None = None

    def theta_at(self, depth: int) -> float | None:
        """θ after `depth` layers; None: never."""
        value = self.theta
        if self.thetas is not None:
            value = self.thetas[depth - 1] if depth <= len(self.thetas) else None
        return None if value is None or value >= 1 else value

    @property
    def tests(self) -> bool:
        """Whether a score can end the stack."""
        return any(value is not None and value < 1 for value in (self.theta, *(self.thetas or ())))


WHOLE = StackExit()


@dataclass(frozen=True)
class Policy(ExitPolicy):
    """One operating point. A stack that `exits` does not name runs whole.

    `beta` in 0 … 1, `tau` ≥ 0 and `horizon` (N; default max_length + 1) shape the decoder's schedule,
    `warmup` is the fraction of N in which the decoder never exits, `min_depth` the layers that always run.
    `plan` is the hash of the plan that the policy was made for.
    What calibration predicts decides nothing and is not compared: `seconds`, the mean of a caption;
    `quality`, the share of full depth's on the pictures that it was tuned on (above 1 where exits help).
    """

    rule: str = "mue"
    exits: Mapping[str, StackExit] = field(default_factory=dict, hash=False)
    beta: float = 0.9
    tau: float = 1.0
    horizon: int | None = None
    warmup: float = 0.0
    min_depth: int = 1
    name: str = ""
    plan: str | None = None
    seconds: float | None = field(default=None, compare=False)
    quality: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UsageError(
                f"unknown policy rule {self.rule!r}{suggestion(self.rule, RULES)}; known rules: " + ", ".join(RULES)
            )
        # Policies that do the same are equal, also as text.
        named = {stack: self.exits[stack] for stack in sorted(self.exits) if self.exits[stack] != WHOLE}
        object.__setattr__(self, "exits", named)
        numbers = [(name, getattr(self, name)) for name in ("beta", "tau", "warmup", "seconds", "quality")]
        for stack, own in named.items():
            numbers += [(f"{stack}'s theta", own.theta)]
            numbers += [(f"{stack}'s thetas", theta) for theta in own.thetas or ()]
        for name, value in numbers:
            if value is not None and not finite(value):
                raise UsageError(f"policy: {name} = {str(value)[:60]} is not a finite number (leave it out for never)")
        for name, high in (("beta", 1.0), ("tau", math.inf), ("warmup", 1.0)):
            if not 0 <= getattr(self, name) <= high:
                raise UsageError(f"policy: {name} = {getattr(self, name)} is not in 0 … {high:g}")
        whole = (self.min_depth, self.horizon, *(own.depth for own in named.values()))
        if any(value is not None and value < 1 for value in whole):
            raise UsageError("policy: min_depth, horizon and depths start at 1")
        if self.seconds is not None and self.seconds <= 0:
            raise UsageError(f"policy: seconds = {self.seconds} is not above 0")
        if self.quality is not None and self.quality < 0:
            raise UsageError(f"policy: quality = {self.quality} is below 0")

    @property
    def label(self) -> str:
        return self.name or self.rule

    def stack_exit(self, stack: str) -> StackExit:
        """When a stack is exited."""
        return self.exits.get(stack, WHOLE)

    def with_exit(self, stack: str, **changes: Any) -> Policy:
        """The same with other fields of one stack's `StackExit`."""
        return replace(self, exits={**self.exits, stack: replace(self.stack_exit(stack), **changes)})

    def threshold(self, stack: str, depth: int, step: int = 0, max_length: int = 16) -> float:
        if depth < self.min_depth or self.rule == "never":
            return NEVER
        rule, end = RULES[self.rule], self.stack_exit(stack).depth
        if end is not None and depth >= end and rule.keep is None:
            return ALWAYS
        if rule.signal(stack) is None:
            return NEVER  # the rule has nothing to test there
        return rule.threshold(self, stack, depth, step, max_length)

    def signal(self, stack: str) -> str | None:
        return RULES[self.rule].signal(stack)

    @property
    def head_states(self) -> str:
        name = self.signal(DECODER)
        return "y" if name is None else SIGNALS[name].states

    def stages(self, stack: str, ends: Sequence[int]) -> tuple[int, ...]:
        keep, layers = RULES[self.rule].keep, self.stack_exit(stack).depth
        if keep is None or layers is None or layers >= ends[-1]:
            return tuple(range(len(ends)))
        return keep(layers, ends)

    def theta(self, stack: str, depth: int) -> float | None:
        """θ after `depth` layers of a stack."""
        return self.stack_exit(stack).theta_at(depth)

    @property
    def may_exit(self) -> bool:
        """Whether any stack can be exited early."""
        if self.rule == "never":
            return False
        own = self.exits.values()
        return any(e.depth is not None for e in own) or (self.rule != "fixed" and any(e.tests for e in own))

    def to_json(self) -> dict[str, Any]:
        """The fields that differ from the defaults, the rule and the schema's version; see `policy_files`."""
        changed: dict[str, Any] = schema.encode(self)
        return {"schema": SCHEMA, "rule": self.rule} | changed


@dataclass(frozen=True)
class ForcedExits(ExitPolicy):
    """Leaves at given depths, whatever the scores are, and at the last step's in all that follow. So the log
    of a run is replayed: of a policy, if that did not run every segment."""

    depths: Mapping[str, int]
    decoder: tuple[int, ...]
    policy: Policy | None = None

    def threshold(self, stack: str, depth: int, step: int = 0, max_length: int = 16) -> float:
        if self.policy is not None and RULES[self.policy.rule].keep is not None:
            return NEVER  # what does not run is not exited
        last = len(self.decoder) - 1
        end = self.decoder[min(step, last)] if stack == DECODER else self.depths[stack]
        return ALWAYS if depth >= end else NEVER

    @property
    def head_states(self) -> str:
        return super().head_states if self.policy is None else self.policy.head_states

    def stages(self, stack: str, ends: Sequence[int]) -> tuple[int, ...]:
        return super().stages(stack, ends) if self.policy is None else self.policy.stages(stack, ends)


def should_exit(score: float, distance: float | None, threshold: float) -> bool:
    """Strictly more alike than the threshold; the distance 1 − cosine decides where there is one,
    because scores of good models crowd just below 1, where float32 is coarse."""
    if math.isinf(threshold):
        return threshold < 0
    return score > threshold if distance is None else distance < 1 - threshold
