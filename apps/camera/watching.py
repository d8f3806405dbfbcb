"""Takes the newest frame, captions it or finds it like the last one, and says what happened.

A frame like the one that was captioned last leaves before the stem: its encoder states, and so its caption,
are that one's. Likeness is judged on 16 × 16 cells, always against the captioned frame, so that a slow change
adds up. In deadline mode a frame's time runs from when it was taken: decoding, comparing and preprocessing
are part of it, and a margin is kept free for what the loop's own deadline cannot hold.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from mue_edge.apps.camera.margin import Margin
from mue_edge.apps.camera.slot import Newest
from mue_edge.errors import InputFileError
from mue_edge.inputs.image import LoadedPicture
from mue_edge.loop.policy import Policy
from mue_edge.sessions import draw
from mue_edge.sessions.captioner import Caption, Captioner

CELLS = 16
KEPT = 500
WAIT_SECONDS = 0.2
# What the clock hurried does not stand for a still scene for longer.
HURRIED_SECONDS = 1.0


@dataclass(frozen=True)
class SeenFrame:
    """A frame that was captioned, or was like the last one (`reused`). latency: seconds from when it was
    taken up to its caption's last word."""

    number: int
    name: str
    picture: Image
    caption: Caption
    policy: str
    latency: float
    reused: bool


@dataclass
class FrameCounts:
    """Counts of a run; `latencies` of the last captioned frames, in seconds."""

    captioned: int = 0
    reused: int = 0
    stale: int = 0
    late: int = 0
    unreadable: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.latencies: deque[float] = deque(maxlen=KEPT)

    @property
    def saved(self) -> float:
        """Seconds that captions of the reused frames would have taken, by the mean of those made."""
        return self.reused * self.seconds / self.captioned if self.captioned else 0.0

    def quantile(self, share: float) -> float:
        """Of the last latencies; 0 if there are none."""
        values = list(self.latencies)  # at once: another thread may ask
        if len(values) < 2:
            return sum(values)
        return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]

    def record(self, slot: Newest) -> dict[str, Any]:
        """For JSON; times in seconds."""
        record = {"frames": slot.seen, "captioned": self.captioned, "reused": self.reused}
        record |= {"dropped": slot.dropped + self.stale, "unreadable": self.unreadable, "late": self.late}
        return record | {"saved": self.saved, "p50": self.quantile(0.5), "p95": self.quantile(0.95)}


class Watcher:
    """One captioner on one slot. `policy` may be set from another thread at any time.

    budget: deadline mode, in seconds a frame. alike: the largest change of a cell, as a share of the range
    from black to white, up to which a frame counts as the last one; None: no frame does. live: frames age.
    """

    def __init__(
        self,
        captioner: Captioner,
        slot: Newest,
        policy: Policy,
        *,
        budget: float | None = None,
        alike: float | None = None,
        live: bool = True,
    ) -> None:
        self.captioner, self.slot, self.policy = captioner, slot, policy
        self.budget, self._alike, self._live = budget, alike, live
        self.tally = FrameCounts()
        self.margin = None if budget is None else Margin(budget)
        self._last: tuple[NDArray[np.int16], Caption, Policy] | None = None
        self._until = math.inf
        self._number = 0
        self.stopped = False

    def stop(self) -> None:
        """Show no further frame; may be called at any time, also from a signal's handler."""
        self.stopped = True

    def frames(self) -> Iterator[SeenFrame]:
        """Until the source is over or `stop` was called; raises what ended the source. Pictures that cannot
        be read are counted only."""
        while not (self.stopped or self.slot.over):
            frame = self.slot.take(WAIT_SECONDS)
            if frame is None:
                continue
            began = frame.taken if self._live else time.perf_counter()
            if self._live and self.budget and time.perf_counter() - began > self.budget / 2:
                self.tally.stale += 1  # a newer one comes; this one could no longer be in time
                continue
            try:
                picture = self.captioner.load(frame.read())
            except InputFileError:
                self.tally.unreadable += 1
                continue
            self._number += 1
            result = self._see(picture, frame.name, began)
            del frame, picture  # else the next one is loaded beside them
            yield result
        if self.slot.problem is not None:
            raise self.slot.problem

    def _see(self, picture: LoadedPicture, name: str, began: float) -> SeenFrame:
        policy, started = self.policy, time.perf_counter()
        cells = None if self._alike is None else signature(picture.rgb)
        caption = self._reusable(cells, policy, started)
        reused = caption is not None
        if caption is None:
            caption = self._captioned(picture, policy, began)
            whole = not (caption.deadline and caption.deadline.cut_short)
            self._last = (cells, caption, policy) if whole and cells is not None else None
            hurried = caption.deadline is not None and caption.deadline.hurried
            self._until = started + HURRIED_SECONDS if hurried else math.inf
            self.tally.captioned += 1
            self.tally.seconds += time.perf_counter() - started
        latency = time.perf_counter() - began
        self.tally.reused += reused
        self.tally.latencies.append(latency)
        self.tally.late += self.budget is not None and latency > self.budget
        name_of = policy.name or policy.rule
        return SeenFrame(self._number, name, picture.rgb, caption, name_of, latency, reused)

    def _reusable(self, cells: NDArray[np.int16] | None, policy: Policy, now: float) -> Caption | None:
        """The last caption, if it stands for these cells too."""
        if cells is None or self._last is None or self._alike is None or now >= self._until:
            return None
        last, caption, of_policy = self._last
        return caption if of_policy == policy and change(cells, last) <= self._alike else None

    def _captioned(self, picture: LoadedPicture, policy: Policy, began: float) -> Caption:
        """Within what is left of the budget, less the margin, which learns from it."""
        if self.budget is None or self.margin is None:
            return self.captioner.caption(picture, policy=policy)
        due = began + self.budget - self.margin.seconds
        remaining = max(1e-4, due - time.perf_counter())
        caption = self.captioner.caption(picture, policy=policy, deadline=remaining)
        self.margin.saw(time.perf_counter() - due)
        return caption


def signature(picture: Image) -> NDArray[np.int16]:
    """Means of 16 × 16 cells, grey levels [16, 16, 3]."""
    factor = max(1, min(picture.size) // (2 * CELLS))
    return np.asarray(picture.reduce(factor).resize((CELLS, CELLS)), np.int16)


def change(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    """The largest change of a cell, 0 … 1."""
    return float(np.abs(one - other).max()) / 255


def describe(frame: SeenFrame, watcher: Watcher) -> dict[str, Any]:
    """What is shown of a frame: its caption, exits by stack and token, latency, and the counts so far."""
    captioner = watcher.captioner
    drawing = draw.drawing_of(frame.caption, captioner.layout, captioner.tokenizer)
    record = {key: getattr(frame, key) for key in ("number", "name", "policy", "reused", "latency")}
    return record | {
        "text": frame.caption.text,
        "budget": watcher.budget,
        "hurry": _hurry(frame.caption),
        "layers": drawing.layers,
        "encoder": [{"stack": b.label, "depth": b.depth, "layers": b.layers} for b in drawing.encoder],
        "tokens": [{"word": b.label, "depth": b.depth} for b in drawing.steps],
        "counts": watcher.tally.record(watcher.slot),
    }


def _hurry(caption: Caption) -> str:
    """What the budget did to a caption, in words; "" if nothing."""
    deadline = caption.deadline
    if deadline is None or not (deadline.hurried or deadline.cut_short):
        return ""
    policies = ", ".join(dict.fromkeys(change.policy for change in deadline.changes)) or "no policy"
    return f"short of time: {policies}" + ("; ended early" if deadline.cut_short else "")
