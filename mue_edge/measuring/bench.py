"""Comparing systems on a machine that is never quiet: interleaved rounds, paired ratios, an A/A twin.

A sample is the time of the same work done by one system. Each round takes one sample of every
system, in random order, so that whatever disturbs the machine disturbs all; a ratio pairs the
samples of one round. The twin is a second instance of the reference: its ratio must be 1, and how
far it strays says what the others' ratios are worth. Standard library only.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import Runtime, Stopwatch, drive
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import Answer, Layout, Request
from mue_edge.loop.replay import exit_distances, quantile_policy, run
from mue_edge.loop.search import BeamSearch, SearchSettings
from mue_edge.sessions.captioner import Captioner

# A twin outside of these bounds means that the run is noise.
TWIN_SPREAD = 0.10
TWIN_MEDIAN = 0.05
# Shorter samples measure the clock, the scheduler, and on a virtual machine what its neighbours take.
SAMPLE_SECONDS = 0.2
MAX_REPEATS = 100

System = Callable[[int], object]


@dataclass(frozen=True)
class TimeSample:
    """Seconds of one system's work in one round: the process's CPU time, and wall-clock time."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Quartiles:
    """Median and quartiles of a ratio."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}-{self.high:.3f}]"


def sample(work: Callable[[], object]) -> TimeSample:
    """The time of one run."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return TimeSample(time.process_time() - cpu, time.perf_counter() - wall)


def interleave(
    systems: Mapping[str, System], reference: str, rounds: range, *, warm_up: int = 2, seed: int = 0
) -> dict[str, list[TimeSample]]:
    """One sample of every system in each round, in random order; systems are called with the round.

    Short work is repeated within a round, the systems taking turns: a sample is the mean. How often
    follows from the reference's time.
    """
    order = random.Random(seed)
    for i in range(warm_up):
        for system in systems.values():
            system(rounds[i % len(rounds)])
    once = sample(partial(systems[reference], rounds[0]))
    repeats = min(MAX_REPEATS, max(1, math.ceil(SAMPLE_SECONDS / max(once.cpu, 1e-6))))
    samples: dict[str, list[TimeSample]] = {name: [] for name in systems}
    for i in rounds:
        turns: dict[str, list[TimeSample]] = {name: [] for name in systems}
        for _ in range(repeats):
            for name in order.sample(list(systems), len(systems)):
                turns[name].append(sample(partial(systems[name], i)))
        for name, found in turns.items():
            cpu, wall = (statistics.fmean(getattr(s, clock) for s in found) for clock in ("cpu", "wall"))
            samples[name].append(TimeSample(cpu, wall))
    return samples


def quartiles(values: Sequence[float]) -> Quartiles:
    """Median and quartiles, interpolated between the values; of one value, that value."""
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(median, low, high)


def ratios(system: Sequence[TimeSample], reference: Sequence[TimeSample], clock: str = "cpu") -> Quartiles:
    """Of the paired ratios system / reference; `clock` is "cpu" or "wall"."""
    return quartiles([getattr(a, clock) / getattr(b, clock) for a, b in zip(system, reference)])


def twin_problem(ratio: Quartiles) -> str | None:
    """Why a run with this A/A ratio is not to be believed, or None."""
    if not (ratio.low >= 1 - TWIN_SPREAD and ratio.high <= 1 + TWIN_SPREAD):
        return f"the twin's ratio spreads over {ratio}; quartiles within 1 ± {TWIN_SPREAD:.2f} are wanted"
    if not abs(ratio.median - 1) <= TWIN_MEDIAN:
        return f"the twin's median ratio is {ratio.median:.3f}; within 1 ± {TWIN_MEDIAN:.2f} is wanted"
    return None


@dataclass(frozen=True)
class SegmentCost:
    """One kind of segment in a caption at full depth: calls, and median wall-clock seconds of them all."""

    calls: int
    seconds: float


def segment_costs(
    layout: Layout, settings: SearchSettings, runtime: Runtime, pictures: Sequence[object], runs: int = 5
) -> dict[str, SegmentCost]:
    """Where the time of a full-depth caption goes, by kind of segment; medians over pictures × runs."""
    seconds: dict[str, list[float]] = defaultdict(list)
    calls: dict[str, list[int]] = defaultdict(list)
    for i in range(1 + runs):
        for pixels in pictures:
            runtime.set_pixels(pixels)
            counted: dict[str, int] = defaultdict(int)
            watch = Stopwatch()

            def see(
                request: Request, answer: Answer, watch: Stopwatch = watch, n: dict[str, int] = counted
            ) -> None:
                watch(request, answer)
                n[request.run.partition(".")[0]] += 1

            drive(caption_loop(layout, Policy("never"), BeamSearch(settings)), runtime, see)
            for kind, value in watch.seconds.items() if i else ():  # the first pass loads the segments
                seconds[kind].append(value)
                calls[kind].append(counted[kind])
    return {
        kind: SegmentCost(round(statistics.median(calls[kind])), statistics.median(values))
        for kind, values in seconds.items()
    }


def exiting_policy(captioner: Captioner, pictures: Sequence[object]) -> tuple[Policy, str]:
    """A policy of the bundle that exits, and where it comes from.

    The chosen one; else the one next to full depth in the front; else thresholds at the median gap
    of these pictures ([1, 3, H, W] each), of whose quality nothing is known.
    """
    manifest = captioner.bundle.manifest
    front = manifest.policies()
    if front[manifest.chosen].may_exit:
        return front[manifest.chosen], f"{manifest.chosen}, the bundle's chosen policy"
    exiting = [name for name, policy in front.items() if policy.may_exit]
    if exiting:
        return front[exiting[-1]], f"{exiting[-1]}, of the bundle's front"
    tests = []
    for pixels in pictures:
        captioner.runtime.set_pixels(pixels)
        settings = captioner.settings()
        outcome = run(captioner.layout, settings, Policy("never"), captioner.runtime, trace=True)
        tests += exit_distances(outcome.decisions)
    policy = quantile_policy(tests, 0.5, "median", manifest.plan_hash)
    return policy, "median, uncalibrated: thresholds at the median gap of these pictures"
