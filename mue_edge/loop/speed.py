"""How fast a bundle runs of late, learnt from the clock of every answer; deadline mode plans with it.

A segment's expected time is its usual time × how much slower than usual its kind runs at the
moment. The first moves slowly, the second at once: a slow moment that hits one decoder segment is
expected of them all, and is over as soon as calls are quick again. What such means miss (a slow moment
near the end) is learnt from the captions that ended early: after each, plans allow for more. Standard
library only.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

# Weights of the newest observation.
NOW, USUAL, DEPTH = 0.4, 0.1, 0.1
CAPTIONS = 100
CERTAINTY = 0.98
# Captions that may be cut short in the long run, and how far each caption moves the caution.
CUT, STRIDE = 0.02, 0.5


class SpeedEstimate:
    """Kept from caption to caption. `seconds`: expected times by segment, if something knows them."""

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self._usual = dict(seconds or {})
        self._slowness: dict[str, float] = {}
        self._lengths: deque[int] = deque(maxlen=CAPTIONS)
        self._depths: dict[object, dict[str, float]] = {}
        # Factor of expected times, at least 1: so much that a share CUT of captions is cut short, by adaptive
        # conformal inference (Gibbs and Candès 2021).
        self.caution = 1.0

    def record(self, run: str, seconds: float) -> None:
        """A call of segment `run` took so long."""
        kind, usual = _kind(run), self._usual.get(run)
        if usual is None or seconds < usual / 2:  # never seen, or a first call, which loaded it
            usual = self._usual[run] = seconds
        ratio = seconds / usual if usual else 1.0
        slowness = self._slowness.get(kind, 1.0)
        self._slowness[kind] = slowness + NOW * (ratio - slowness)
        self._usual[run] = usual * (1 + USUAL * (min(ratio, 2.0) - 1))

    def seconds(self, run: str) -> float:
        """Expected time of the next call of `run`; that of its kind if it was never called, else 0."""
        kind, usual = _kind(run), self._usual.get(run)
        if usual is None:
            alike = [value for name, value in self._usual.items() if _kind(name) == kind]
            usual = sum(alike) / len(alike) if alike else 0.0
        return usual * self._slowness.get(kind, 1.0)

    def record_caption(self, steps: int, *, cut: bool) -> None:
        """A caption took so many steps; one that was cut would have taken at least one more."""
        length = round(steps + self.remaining_steps(steps, steps + 1)[0]) if cut else steps
        self._lengths.append(length)
        self.caution = max(1.0, self.caution + STRIDE * (cut - CUT))

    def remaining_steps(self, done: int, most: int) -> tuple[float, int]:
        """Steps still to come of a caption after `done` of at most `most`: their mean, at least 1, and
        a number that 1 caption in 50 exceeds (the conformal quantile of the last ones)."""
        mean = 1.0 if self._lengths else (most - done) / 2
        if longer := [n - done for n in self._lengths if n > done]:
            mean = sum(longer) / len(longer)
        ordered = sorted([*self._lengths, most])
        bound = ordered[math.ceil(CERTAINTY * len(ordered)) - 1]
        return max(1.0, mean), max(1, bound - done)

    def depths(self, policy: object) -> dict[str, float]:
        """Mean segments that a policy has run, by stack; `record_depth` changes them."""
        return self._depths.setdefault(policy, {})

    @staticmethod
    def record_depth(depths: dict[str, float], stack: str, segments: int, *, at_least: bool = False) -> None:
        """A stack was exited after so many segments, or would have been after at least so many."""
        before = depths.get(stack)
        if at_least and (before is None or before >= segments):
            return
        depths[stack] = segments if before is None else before + DEPTH * (segments - before)


def _kind(run: str) -> str:
    return run.partition(".")[0]
