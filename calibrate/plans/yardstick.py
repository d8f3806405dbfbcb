"""Brings profiles that were made at different moments to one yardstick.

A machine that others use too is slower at one moment than at another, in CPU time as well (shared caches
and cores), by more than plans differ. So a plan's bundle and the reference's run captions in turns, at one
moment; each live time over what its own profile predicts says how that profile is off now, and the ratio
of the two is the plan's error against the reference's. It does not matter how long the captions are.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import drive
from mue_edge.loop.search import BeamSearch
from mue_edge.measuring.profile import CPU, Profile, SegmentTime
from mue_edge.sessions.captioner import FULL, Captioner

PAIRS, WARM_UP = 60, 3
Clock = Callable[[], float]


def level(
    captioner: Captioner, times: Profile, reference: Captioner, known: Profile, pictures: Sequence[Any], *,
    pairs: int = PAIRS, clock: Clock | None = None,
) -> Profile:  # fmt: skip
    """`times` as they would be if `captioner` had been profiled when `reference` was (whose profile is
    `known`). pictures: anything that captioners take. clock: of the profile, if it is not given."""
    now = clock or (time.process_time if times.clock == CPU else time.perf_counter)
    both, draw, ratios = ((captioner, times), (reference, known)), random.Random(0), []
    for i in range(-WARM_UP, pairs):
        picture = pictures[i % len(pictures)]
        off = [0.0, 0.0]
        for which in draw.sample((0, 1), 2):
            off[which] = _off(*both[which], picture, now)
        if i >= 0:
            ratios.append(off[0] / off[1])
    # Factors of live over predicted have their profile's noise as median when nothing has changed.
    usual = times.noise.p50 / known.noise.p50 if times.noise and known.noise else 1.0
    return scaled(times, statistics.median(ratios) / usual)


def scaled(times: Profile, factor: float) -> Profile:
    """The profile of a machine that takes `factor` times as long for everything."""
    segments = {
        name: SegmentTime(s.median * factor, s.p95 * factor, s.spread * factor, s.calls)
        for name, s in times.segments.items()
    }
    return replace(
        times, segments=segments, loop_seconds_per_call=times.loop_seconds_per_call * factor,
        caption_seconds=times.caption_seconds * factor,
        preprocess_seconds=None if times.preprocess_seconds is None else times.preprocess_seconds * factor,
    )  # fmt: skip


def _off(captioner: Captioner, times: Profile, picture: Any, now: Clock) -> float:
    """Live over predicted seconds of a caption at full depth, from the network's input on."""
    calls: list[str] = []
    pixels = captioner.pixels(picture)
    loop = caption_loop(captioner.layout, FULL, BeamSearch(captioner.settings()))
    begin = now()
    captioner.runtime.set_pixels(pixels)
    drive(loop, captioner.runtime, lambda request, _: calls.append(request.run))
    return (now() - begin) / times.predict(calls)
