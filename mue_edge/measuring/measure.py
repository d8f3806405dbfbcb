"""Live captions, timed segment by segment: what a measured profile is made of.

Captions of several depths take turns, so that a disturbance meets all: full depth, the shallowest,
and exits drawn at random for every step, which reach every segment that catches up on skipped rows.
Two of three fit the model; every third runs without clocks inside and only checks it. Standard
library only.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mue_edge.errors import VerificationError
from mue_edge.loop import search
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import Runtime, drive, set_inputs
from mue_edge.loop.lossless import lossless_loop
from mue_edge.loop.policy import ForcedExits
from mue_edge.loop.protocol import Answer, Layout, Request
from mue_edge.loop.search import SearchSettings
from mue_edge.measuring.profile import Noise, ProfileCheck, SegmentTime

FULL, SHALLOW, MIXED = "full depth", "shallowest", "mixed"
# Mixed twice: they are what policies do.
TURNS = (FULL, SHALLOW, MIXED, MIXED)
WARM_UP = 64
Clock = Callable[[], float]


@dataclass(frozen=True)
class Costs:
    """What a profile says of time (see `profile.Profile`), and the calls of a caption at full depth."""

    segments: Mapping[str, SegmentTime]
    loop_seconds_per_call: float
    caption_seconds: float
    noise: Noise
    error: float
    checks: Mapping[str, ProfileCheck]
    full_depth: tuple[str, ...]

    def predict(self, runs: Sequence[str]) -> float:
        """As `Profile.predict`."""
        return _predict(self.segments, self.loop_seconds_per_call, self.caption_seconds, runs)


@dataclass(frozen=True)
class _Live:
    """One caption: its segments in order, its seconds and, if it was timed inside, each call's begin
    and end."""

    kind: str
    runs: tuple[str, ...]
    seconds: float
    calls: tuple[tuple[float, float], ...] = ()

    @property
    def between(self) -> float:
        """Seconds from the end of a call to the begin of the next, over all."""
        return sum(b[0] - a[1] for a, b in zip(self.calls, self.calls[1:]))

    @property
    def outside(self) -> float:
        """Seconds before the first call and after the last."""
        return self.seconds - (self.calls[-1][1] - self.calls[0][0])


class _Timed:
    """A runtime that notes when each call begins and ends. One that returns before its device is done
    has that time in the next call that waits."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self._runtime, self._clock = runtime, clock
        self.calls: list[tuple[float, float]] = []

    def set_pixels(self, pixels: object) -> None:
        self._runtime.set_pixels(pixels)

    def execute(self, request: Request) -> Answer:
        begin = self._clock()
        answer = self._runtime.execute(request)
        self.calls.append((begin, self._clock()))
        return answer

    def close(self) -> None:
        self._runtime.close()


@dataclass(frozen=True)
class Setup:
    """What is measured, on what, by which clock; `sources`: texts, for a bundle with a text branch."""

    layout: Layout
    settings: SearchSettings
    segments: tuple[str, ...]
    runtime: Runtime
    pictures: Sequence[object]
    clock: Clock = time.perf_counter
    sources: Sequence[Sequence[int]] = ()


def measure(
    setup: Setup, captions: int, *, seed: int = 0, step: Callable[[], object] = lambda: None
) -> Costs:
    """Costs from `captions` timed captions, checked on half as many more; `step` is called after each.

    Raises VerificationError when some segments are never reached, naming them.
    """
    draw = random.Random(seed)
    _warm_up(setup, draw)
    fitted: list[_Live] = []
    held: list[_Live] = []
    turns: list[str] = []
    for i in range(captions + captions // 2):
        turns = turns or draw.sample(TURNS, len(TURNS))
        check = i % 3 == 2
        (held if check else fitted).append(_caption(setup, turns.pop(), draw, timed=not check))
        step()
    return _fit(fitted, held, setup.segments)


def _fit(fitted: Sequence[_Live], held: Sequence[_Live], wanted: Iterable[str]) -> Costs:
    calls: dict[str, list[float]] = defaultdict(list)
    for live in fitted:
        for run, (begin, end) in zip(live.runs, live.calls):
            calls[run].append(end - begin)
    _check_reached(calls, wanted)
    segments = {name: _segment_time(calls[name]) for name in wanted}
    loop = statistics.median(live.between / len(live.runs) for live in fitted)
    fixed = statistics.median(live.outside for live in fitted)
    factors = [live.seconds / _predict(segments, loop, fixed, live.runs) for live in fitted]
    noise = Noise(quantile(factors, 0.5), quantile(factors, 0.95))
    expected = [noise.p50 * _predict(segments, loop, fixed, live.runs) for live in held]
    error = statistics.median(abs(e / live.seconds - 1) for e, live in zip(expected, held))
    full = sorted((live for live in fitted if live.kind == FULL), key=lambda live: len(live.runs))
    return Costs(segments, loop, fixed, noise, error, _checks(held, expected), full[len(full) // 2].runs)


def _checks(held: Sequence[_Live], expected: Sequence[float]) -> dict[str, ProfileCheck]:
    found = {}
    for kind in (FULL, MIXED, SHALLOW):
        pairs = [(e, live.seconds) for e, live in zip(expected, held) if live.kind == kind]
        if pairs:
            found[kind] = ProfileCheck(len(pairs), *(statistics.median(column) for column in zip(*pairs)))
    return found


def _predict(segments: Mapping[str, SegmentTime], loop: float, fixed: float, runs: Sequence[str]) -> float:
    return fixed + sum(segments[run].median + loop for run in runs)


def _segment_time(seconds: Sequence[float]) -> SegmentTime:
    spread = quantile(seconds, 0.75) - quantile(seconds, 0.25)
    return SegmentTime(quantile(seconds, 0.5), quantile(seconds, 0.95), spread, len(seconds))


def quantile(values: Sequence[float], share: float) -> float:
    """Interpolated between the two nearest values."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


def _warm_up(setup: Setup, draw: random.Random) -> None:
    """Until every segment was loaded: the first call of each takes its session's making."""
    seen: set[str] = set()
    for i in range(WARM_UP):
        seen.update(_caption(setup, TURNS[i % len(TURNS)], draw, timed=False).runs)
        if i + 1 >= len(TURNS) and seen.issuperset(setup.segments):
            return
    _check_reached(seen, setup.segments)


def _check_reached(reached: Iterable[str], wanted: Iterable[str]) -> None:
    missing = sorted(set(wanted) - set(reached))
    if missing:
        raise VerificationError(
            f"no caption reached {', '.join(missing)}, so their cost is unknown; give other IMAGES "
            "(catching up on skipped rows takes captions of several tokens)"
        )


def _caption(setup: Setup, kind: str, draw: random.Random, *, timed: bool) -> _Live:
    picture, policy = draw.choice(setup.pictures), _exits(setup, kind, draw)
    source = draw.choice(setup.sources) if setup.sources else ()
    # What a head reads but the states themselves is made for tests only.
    heads = kind == MIXED and any(len(stage.states) > 1 for stage in setup.layout.decoder.stages)
    begun = search.new_search(setup.settings, source)
    if kind == MIXED and setup.layout.verify_rows and draw.random() < 0.5:
        loop = lossless_loop(setup.layout, policy, begun)
    else:
        loop = caption_loop(setup.layout, policy, begun, trace=kind == MIXED, heads=heads)
    runs: list[str] = []
    runtime = _Timed(setup.runtime, setup.clock) if timed else setup.runtime
    begin = setup.clock()
    set_inputs(setup.runtime, picture, source)
    drive(loop, runtime, lambda request, answer: runs.append(request.run))
    seconds = setup.clock() - begin
    return _Live(kind, tuple(runs), seconds, tuple(runtime.calls) if isinstance(runtime, _Timed) else ())


def _exits(setup: Setup, kind: str, draw: random.Random) -> ForcedExits:
    """Depths at which this caption leaves its stacks, of those that the plan has boundaries at."""

    def pick(depths: Sequence[int]) -> int:
        return depths[-1] if kind == FULL else depths[0] if kind == SHALLOW else draw.choice(depths)

    layout = setup.layout
    # Constants of every depth cost the same.
    encoder = {s.name: pick(s.ends) if s.stages else s.depth for s in layout.encoders}
    return ForcedExits(
        encoder, tuple(pick(layout.decoder.ends) for _ in range(setup.settings.max_length + 2))
    )
