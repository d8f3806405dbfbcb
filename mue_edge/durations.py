"""Times and shares of time as people write them: `50ms`, `0.05s`, `50%`. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mue_edge.errors import UsageError

UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_FORM = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zµ]+|%)?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Span:
    """Seconds, or a share (above 0, at most 1) of a caption's time at full depth; the other is None."""

    seconds: float | None = None
    share: float | None = None

    def of(self, full: float) -> float:
        """In seconds, where a caption at full depth takes `full` seconds."""
        return self.seconds if self.seconds is not None else (self.share or 0.0) * full


def parse(text: str) -> Span:
    """A time above 0, or a percentage up to 100 %. Raises UsageError for everything else."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is neither a time nor a share; write for instance 50ms, 0.05s or 50%")
    number, unit = float(match[1]), (match[2] or "").lower()
    if not unit:
        raise UsageError(f"{text!r} has no unit; write {text.strip()}ms or {text.strip()}s")
    if unit != "%" and unit not in UNITS:
        raise UsageError(f"{text!r}: unknown unit {unit!r}; known: {', '.join(UNITS)} and %")
    if not number > 0:
        raise UsageError(f"{text!r} leaves no time; it must be more than 0")
    if unit != "%":
        return Span(seconds=number * UNITS[unit])
    if number > 100:
        raise UsageError(f"{text!r} is more than all of a full-depth caption's time; at most 100%")
    return Span(share=number / 100)


def seconds(text: str) -> float:
    """A time in seconds. Raises UsageError, also for a percentage."""
    span = parse(text)
    if span.seconds is None:
        raise UsageError(
            f"{text!r} is a share of a time that is not known here; write a time, for instance 50ms or 0.05s"
        )
    return span.seconds
