"""Makes the profile of an opened bundle on the machine that runs this, from live captions.

Captions of several depths take turns, so that a disturbance meets all: full depth, the shallowest,
and exits drawn at random for every step, which reach every segment that catches up on skipped rows.
Two of three fit the model; every third runs without clocks inside and only checks it.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mue_edge import machine
from mue_edge.errors import VerificationError
from mue_edge.inputs.image import PictureSource
from mue_edge.loop import search
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import Runtime, drive, set_inputs, stepwise
from mue_edge.loop.lossless import lossless_loop
from mue_edge.loop.policy import NEVER, ExitPolicy, ForcedExits
from mue_edge.loop.protocol import Answer, Request
from mue_edge.measuring import profile
from mue_edge.measuring.profile import Noise, Profile, ProfileCheck, SegmentTime
from mue_edge.sessions.session import Session

FULL, SHALLOW, MIXED = "full depth", "shallowest", "mixed"
# Mixed twice: they are what policies do.
TURNS = (FULL, SHALLOW, MIXED, MIXED)
# Thresholds of captions at full depth by fused segments: no test, and one at every boundary that none passes.
FUSED = (NEVER, 1 - 1e-12)
WARM_UP = 64
# Pictures stay in memory, so that reading them does not disturb what is timed.
MAX_PICTURES = 64
CAPTIONS = 300


@dataclass(frozen=True)
class NetworkInputs:
    """The network's inputs, and the median seconds of making one from a picture (None: none was made);
    `sources`: ids of texts, where the network reads one."""

    pixels: Sequence[object]
    preprocess: float | None
    sources: Sequence[Sequence[int]] = ()


def network_inputs(
    session: Session, files: Sequence[PictureSource], sources: Sequence[Sequence[int]] = ()
) -> NetworkInputs:
    """Of up to MAX_PICTURES of the files, evenly chosen, and the texts."""
    pixels, seconds = [], []
    for file in files[:: math.ceil(len(files) / MAX_PICTURES)]:
        begin = time.perf_counter()
        pixels.append(session.pixels(file))
        seconds.append(time.perf_counter() - begin)
    return NetworkInputs(pixels, statistics.median(seconds), sources)


def measure(
    session: Session,
    inputs: NetworkInputs,
    captions: int = CAPTIONS,
    *,
    clock: str = profile.WALL,
    seed: int = 0,
    step: Callable[[], object] = lambda: None,
) -> tuple[Profile, tuple[str, ...]]:
    """The profile, from `captions` timed captions and half as many that check it, and the segments of a
    caption at full depth; `step` is called after each caption.

    `clock`: "wall", or "cpu" for one thread's CPU time. Raises VerificationError when some segments are never
    reached, naming them.
    """
    load, m = machine.load_average(), session.bundle.manifest
    captioning = _Captioning(session, inputs, random.Random(seed), clock)
    fitted: list[_TimedCaption] = []
    checked: list[_TimedCaption] = []
    turns: list[str] = []
    with stepwise(session.runtime):
        captioning.warm_up()
        if m.fused:  # loads them
            captioning.fused()
            captioning.fused_seconds.clear()
        for i in range(captions + captions // 2):
            turns = turns or captioning.random.sample(TURNS, len(TURNS))
            check = i % 3 == 2
            (checked if check else fitted).append(captioning.caption(turns.pop(), timed=not check))
            if m.fused and i % len(TURNS) == 0:
                captioning.fused()
            step()
    blank = profile.blank(
        m,
        kind=profile.MEASURED,
        device=machine.device(),
        runtime=m.runtime.name,
        threads=getattr(session.runtime, "threads", 0),
        preprocess_seconds=inputs.preprocess,
        clock=clock,
        clocks=machine.clocks(),
        versions=machine.versions(),
        load=tuple(filter(math.isfinite, (load, machine.load_average()))),
    )
    full = sorted((c for c in fitted if c.kind == FULL), key=lambda c: len(c.runs))
    _check_reached(captioning.fused_seconds, m.fused)
    fused = {name: _segment_time(captioning.fused_seconds[name]) for name in m.fused}
    return replace(_fit(blank, m.segments, fitted, checked), fused=fused), full[len(full) // 2].runs


@dataclass(frozen=True)
class _TimedCaption:
    """Its segments in order, its seconds and, if it was timed inside, each call's begin and end."""

    kind: str
    runs: tuple[str, ...]
    seconds: float
    calls: tuple[tuple[float, float], ...]


class _TimedRuntime:
    """A runtime that notes when each call begins and ends. One that returns before its device is done
    has that time in the next call that waits."""

    def __init__(self, runtime: Runtime, now: Callable[[], float]) -> None:
        self._runtime, self._now = runtime, now
        self.calls: list[tuple[float, float]] = []

    def execute(self, request: Request) -> Answer:
        begin = self._now()
        answer = self._runtime.execute(request)
        self.calls.append((begin, self._now()))
        return answer


@dataclass(frozen=True)
class _NeverPassed(ExitPolicy):
    """Tests with one threshold everywhere."""

    value: float

    def threshold(self, stack: str, depth: int, step: int = 0, max_length: int = 16) -> float:
        return self.value


class _Captioning:
    """Captions of drawn inputs, by a clock."""

    def __init__(self, session: Session, inputs: NetworkInputs, draw: random.Random, clock: str) -> None:
        self._session, self._inputs, self.random = session, inputs, draw
        self._now = time.process_time if clock == profile.CPU else time.perf_counter
        self.fused_seconds: dict[str, list[float]] = defaultdict(list)

    def warm_up(self) -> None:
        """Until every segment was loaded: the first call of each takes its session's making."""
        segments, reached = self._session.bundle.manifest.segments, set[str]()
        for i in range(WARM_UP):
            reached.update(self.caption(TURNS[i % len(TURNS)], timed=False).runs)
            if i + 1 >= len(TURNS) and reached.issuperset(segments):
                return
        _check_reached(reached, segments)

    def caption(self, kind: str, *, timed: bool) -> _TimedCaption:
        """One of FULL, SHALLOW or MIXED depth; `timed`: each call, too."""
        session, draw, now = self._session, self.random, self._now
        layout = session.layout
        picture, policy = draw.choice(self._inputs.pixels), self._exits(kind)
        source = draw.choice(self._inputs.sources) if self._inputs.sources else ()
        # What a head reads but the states themselves is made for tests only.
        heads = kind == MIXED and any(len(stage.states) > 1 for stage in layout.decoder.stages)
        begun = search.new_search(session.settings(), source)
        if kind == MIXED and layout.verify_rows and draw.random() < 0.5:
            loop = lossless_loop(layout, policy, begun)
        else:
            loop = caption_loop(layout, policy, begun, trace=kind == MIXED, heads=heads)
        runs: list[str] = []
        clocked = _TimedRuntime(session.runtime, now)
        runtime: Any = clocked if timed else session.runtime
        begin = now()
        set_inputs(session.runtime, picture, source)
        drive(loop, runtime, lambda request, _: runs.append(request.run))
        return _TimedCaption(kind, tuple(runs), now() - begin, tuple(clocked.calls))

    def fused(self) -> None:
        """Captions at full depth by fused segments, whose times are kept."""
        session = self._session
        runtime: Any = session.runtime

        def record(request: Request, answer: Answer) -> None:
            for run, seconds in answer.ran or ():
                self.fused_seconds[run].append(seconds)

        runtime.stepwise, runtime.clock = False, self._now
        for threshold in FUSED:
            source = self.random.choice(self._inputs.sources) if self._inputs.sources else ()
            set_inputs(runtime, self.random.choice(self._inputs.pixels), source)
            begun = search.new_search(session.settings(), source)
            drive(caption_loop(session.layout, _NeverPassed(threshold), begun), runtime, record)
        runtime.stepwise = True

    def _exits(self, kind: str) -> ForcedExits:
        """Depths at which this caption exits its stacks, of those that the plan has boundaries at."""

        def pick(depths: Sequence[int]) -> int:
            if kind == MIXED:
                return self.random.choice(depths)
            return depths[-1] if kind == FULL else depths[0]

        layout, steps = self._session.layout, self._session.settings().max_length + 2
        # Constants of every depth cost the same.
        encoder = {s.name: pick(s.ends) if s.stages else s.depth for s in layout.encoders}
        return ForcedExits(encoder, tuple(pick(layout.decoder.ends) for _ in range(steps)))


def _fit(
    blank: Profile, segments: Iterable[str], fitted: Sequence[_TimedCaption], checked: Sequence[_TimedCaption]
) -> Profile:
    """The profile with the times of these captions, and how well it predicts the others."""
    calls: dict[str, list[float]] = defaultdict(list)
    between, outside = [], []  # seconds from a call to the next, and before the first and after the last
    for caption in fitted:
        for run, (begin, end) in zip(caption.runs, caption.calls):
            calls[run].append(end - begin)
        pauses = sum(b[0] - a[1] for a, b in zip(caption.calls, caption.calls[1:]))
        between.append(pauses / len(caption.runs))
        outside.append(caption.seconds - (caption.calls[-1][1] - caption.calls[0][0]))
    _check_reached(calls, segments)
    fit = replace(
        blank,
        segments={name: _segment_time(calls[name]) for name in segments},
        loop_seconds_per_call=statistics.median(between),
        caption_seconds=statistics.median(outside),
    )
    noise = Noise(*np.quantile([c.seconds / fit.predict(c.runs) for c in fitted], (0.5, 0.95)).tolist())
    pairs = [(c.kind, noise.p50 * fit.predict(c.runs), c.seconds) for c in checked]
    checks = {}
    for kind in (FULL, MIXED, SHALLOW):
        if own := [pair[1:] for pair in pairs if pair[0] == kind]:
            checks[kind] = ProfileCheck(len(own), *(statistics.median(column) for column in zip(*own)))
    error = statistics.median(abs(predicted / live - 1) for _, predicted, live in pairs)
    return replace(fit, noise=noise, error=error, checks=checks)


def _segment_time(seconds: Sequence[float]) -> SegmentTime:
    low, median, high, p95 = np.quantile(seconds, (0.25, 0.5, 0.75, 0.95)).tolist()
    return SegmentTime(median, p95, high - low, len(seconds))


def _check_reached(reached: Iterable[str], segments: Iterable[str]) -> None:
    missing = sorted(set(segments) - set(reached))
    if missing:
        raise VerificationError(
            f"no caption reached {', '.join(missing)}, so their cost is unknown; give other IMAGES "
            "(catching up on skipped rows takes captions of several tokens)"
        )
