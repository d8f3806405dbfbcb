"""When to leave a stack early: policies, their thresholds and the exit test.

A policy answers one question, `threshold(stack, depth, step, max_length)`: which exit score
must be exceeded to leave `stack` after `depth` layers. `inf` means never, `-inf` always, so
that neither needs a score. Stacks are "image", "text", "encoder" (OFA's joint one) and "decoder".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from mue_edge.errors import InputFileError, UsageError, meant
from mue_edge.reading import finite, read_json
from mue_edge.rules import RULES
from mue_edge.rules.rule import ALWAYS, NEVER
from mue_edge.signals import SIGNALS, SIMILARITY

__all__ = [
    "ALWAYS", "NEVER", "Decider", "ForcedExits", "Policy", "exits", "from_json", "read", "signal_of",
    "stages_of", "words_of",
]  # fmt: skip

_STACKS = ("image", "text", "decoder")
_THETAS = tuple(f"theta_{stack}" for stack in _STACKS)
_BY_BOUNDARY = tuple(f"thetas_{stack}" for stack in _STACKS)
_DEPTHS = tuple(f"depth_{stack}" for stack in _STACKS)


class Decider(Protocol):
    """What the loop needs of a policy."""

    def threshold(self, stack: str, depth: int, step: int = 0, max_length: int = 16) -> float: ...


@dataclass(frozen=True)
class Policy:
    """One operating point. A theta of None, or of 1 and more, never exits its stack.

    `thetas_*` hold a theta for every boundary (the first after one layer), in the place of the
    stack's one. `beta` in 0 … 1, `tau` ≥ 0 and `horizon` (N; default max_length + 1) shape the
    decoder's schedule, `warmup` is the fraction of N in which the decoder never exits, `min_depth`
    the layers that always run. `depth_*` end a stack there, whatever its scores are: all that the
    rule "fixed" knows; a rule that leaves layers out reads in them how many stay. `plan` is the hash of
    the plan that the policy was made for.
    What calibration foretells decides nothing and is not compared: `seconds`, the mean of a caption;
    `quality`, the share of full depth's on the pictures that it was tuned on (above 1 where exits help).
    """

    rule: str = "mue"
    theta_image: float | None = None
    theta_text: float | None = None
    theta_decoder: float | None = None
    thetas_image: tuple[float | None, ...] | None = None
    thetas_text: tuple[float | None, ...] | None = None
    thetas_decoder: tuple[float | None, ...] | None = None
    beta: float = 0.9
    tau: float = 1.0
    horizon: int | None = None
    warmup: float = 0.0
    min_depth: int = 1
    depth_image: int | None = None
    depth_text: int | None = None
    depth_decoder: int | None = None
    name: str = ""
    plan: str | None = None
    seconds: float | None = field(default=None, compare=False)
    quality: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UsageError(
                f"unknown policy rule {self.rule!r}{meant(self.rule, RULES)}; known rules: {', '.join(RULES)}"
            )
        values: dict[str, tuple[float | None, ...]] = {
            name: (getattr(self, name),) for name in (*_THETAS, "beta", "tau", "warmup", "seconds", "quality")
        }
        values |= {name: getattr(self, name) or () for name in _BY_BOUNDARY}
        for name, numbers in values.items():
            for value in numbers:
                if value is not None and not finite(value):
                    raise UsageError(
                        f"policy: {name} = {str(value)[:60]} is not a finite number (leave it out for never)"
                    )
        for name, high in (("beta", 1.0), ("tau", math.inf), ("warmup", 1.0)):
            if not 0 <= getattr(self, name) <= high:
                raise UsageError(f"policy: {name} = {getattr(self, name)} is not in 0 … {high:g}")
        whole = (self.min_depth, self.horizon, *(getattr(self, name) for name in _DEPTHS))
        if any(value is not None and value < 1 for value in whole):
            raise UsageError("policy: min_depth, horizon and depths start at 1")
        if self.seconds is not None and self.seconds <= 0:
            raise UsageError(f"policy: seconds = {self.seconds} is not above 0")
        if self.quality is not None and self.quality < 0:
            raise UsageError(f"policy: quality = {self.quality} is below 0")

    def threshold(self, stack: str, depth: int, step: int = 0, max_length: int = 16) -> float:
        """The score that the exit test after `depth` layers must exceed (strictly)."""
        if depth < self.min_depth or self.rule == "never":
            return NEVER
        rule = RULES[self.rule]
        end: int | None = getattr(self, f"depth_{stack}", None)
        if end is not None and depth >= end and rule.keep is None:
            return ALWAYS
        if rule.signal(stack) is None:
            return NEVER  # the rule has nothing to test there
        return rule.threshold(self, stack, depth, step, max_length)

    def signal(self, stack: str) -> str | None:
        """Name of what the stack's exit tests read (`mue_edge.signals`); None: no score."""
        return RULES[self.rule].signal(stack)

    def stages(self, stack: str, ends: Sequence[int]) -> tuple[int, ...]:
        """Which of the segments that end at these depths may run, the last one among them."""
        keep, layers = RULES[self.rule].keep, getattr(self, f"depth_{stack}", None)
        if keep is None or layers is None or layers >= ends[-1]:
            return tuple(range(len(ends)))
        return keep(layers, ends)

    def theta(self, stack: str, depth: int) -> float | None:
        """θ after `depth` layers; the joint encoder has none, since its exits were never trained for."""
        several: tuple[float | None, ...] | None = getattr(self, f"thetas_{stack}", None)
        if several is None:
            value: float | None = getattr(self, f"theta_{stack}", None)
        else:
            value = several[depth - 1] if depth <= len(several) else None
        return None if value is None or value >= 1 else value

    @property
    def may_exit(self) -> bool:
        """Whether any stack can be left early."""
        if self.rule == "never":
            return False
        if any(getattr(self, name) is not None for name in _DEPTHS):
            return True
        values = [getattr(self, name) for name in _THETAS]
        for name in _BY_BOUNDARY:
            values += getattr(self, name) or ()
        return self.rule != "fixed" and any(value is not None and value < 1 for value in values)

    def to_json(self) -> dict[str, Any]:
        """The fields that differ from the defaults, and the rule."""
        changed = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {"rule": self.rule} | {
            key: list(value) if isinstance(value, tuple) else value for key, value in changed.items()
        }


@dataclass(frozen=True)
class ForcedExits:
    """Leaves at given depths, whatever the scores are, and at the last step's in all that follow. So the log
    of a run is replayed: of a policy, if that did not run every segment."""

    depths: Mapping[str, int]
    decoder: tuple[int, ...]
    of: Policy | None = None

    def threshold(self, stack: str, depth: int, step: int = 0, max_length: int = 16) -> float:
        if self.of is not None and RULES[self.of.rule].keep is not None:
            return NEVER  # what does not run is not left
        last = len(self.decoder) - 1
        wanted = self.decoder[min(step, last)] if stack == "decoder" else self.depths[stack]
        return ALWAYS if depth >= wanted else NEVER


def signal_of(policy: Decider, stack: str) -> str | None:
    """What a policy's tests read. Deciders that force depths read nothing; similarity stands for that."""
    return policy.signal(stack) if isinstance(policy, Policy) else SIMILARITY


def words_of(policy: Decider) -> str:
    """What the head reads for a policy at a decoder boundary; see `signals.Signal.states`."""
    own = policy.of if isinstance(policy, ForcedExits) else policy
    name = own.signal("decoder") if isinstance(own, Policy) else None
    return "y" if name is None else SIGNALS[name].states


def stages_of(policy: Decider, stack: str, ends: Sequence[int]) -> tuple[int, ...]:
    """Segments of a stack that a policy may run; see `Policy.stages`."""
    own = policy.of if isinstance(policy, ForcedExits) else policy
    return own.stages(stack, ends) if isinstance(own, Policy) else tuple(range(len(ends)))


def from_json(data: object, where: str = "") -> Policy:
    """The policy of a JSON object, which stands at `where`; unknown keys and ill-typed values are
    InputFileErrors."""
    try:
        return _from_json(data)
    except (InputFileError, UsageError) as problem:
        raise InputFileError(f"{where}: {problem}" if where else str(problem)) from problem


def _from_json(data: object) -> Policy:
    if not isinstance(data, dict):
        raise InputFileError(f"a policy is a JSON object, not {type(data).__name__}")
    known = {f.name: f for f in fields(Policy)}
    surplus = set(data) - set(known)
    if surplus:
        raise InputFileError(f"policy has unknown keys {sorted(surplus)}; known: {', '.join(known)}")
    values = dict(data)
    for key in set(_BY_BOUNDARY) & set(data):
        if data[key] is not None and not isinstance(data[key], list):
            raise InputFileError(f"policy: {key} = {data[key]!r} is not a list of numbers and nulls")
        values[key] = None if data[key] is None else tuple(data[key])
    for key, value in values.items():
        several = key in _BY_BOUNDARY
        text = key in ("rule", "name", "plan")
        whole = key in ("horizon", "min_depth", *_DEPTHS)
        kinds: tuple[type, ...] = (str,) if text else (int,) if whole else (int, float)
        for one in (value or ()) if several else (value,):
            if one is None and (several or known[key].default is None):
                continue
            if isinstance(one, bool) or not isinstance(one, kinds):
                raise InputFileError(
                    f"policy: {key} = {one!r} is not {' or '.join(k.__name__ for k in kinds)}"
                )
    return Policy(**values)


def read(path: str | Path) -> Policy:
    """The policy of a JSON file. Raises InputFileError, which names the file."""
    return from_json(read_json(path), str(path))


def exits(score: float, gap: float | None, threshold: float) -> bool:
    """Strictly more alike than the threshold; the gap 1 − cosine decides where there is one,
    because scores of good models crowd just below 1, where float32 is coarse."""
    if math.isinf(threshold):
        return threshold < 0
    return score > threshold if gap is None else gap < 1 - threshold
