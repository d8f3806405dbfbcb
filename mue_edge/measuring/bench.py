"""Comparing systems on a machine that is never quiet: interleaved rounds, paired ratios, an A/A control.

A sample is the time of the same work done by one system. Each round takes one sample of every
system, in random order, so that whatever disturbs the machine disturbs all; a ratio pairs the
samples of one round. The A/A control is a second instance of the reference: its ratio must be 1, and
how far it strays says what the others' ratios are worth.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mue_edge.loop.driver import Stopwatch, Watcher, kind_of
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import Answer, Request
from mue_edge.loop.replay import exit_distances, quantile_policy, run
from mue_edge.sessions.captioner import Captioner
from mue_edge.sessions.session import Session

# An A/A control outside of these bounds means that the run is noise.
CONTROL_SPREAD = 0.10
CONTROL_MEDIAN = 0.05
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
    """The time of one run: what it says itself, if it ran elsewhere."""
    wall, cpu = time.perf_counter(), time.process_time()
    done = work()
    own = TimeSample(time.process_time() - cpu, time.perf_counter() - wall)
    return done if isinstance(done, TimeSample) else own


def interleave(
    systems: Mapping[str, System],
    reference: str | None,
    rounds: range,
    *,
    warm_up: int = 2,
    seed: int = 0,
    step: Callable[[], object] = lambda: None,
) -> dict[str, list[TimeSample]]:
    """One sample of every system in each round, in random order; systems are called with the round, and
    `step` after each.

    Short work is repeated within a round, the systems taking turns: a sample is the mean. How often
    follows from the reference's time; without a reference a sample is one call.
    """
    order, repeats = random.Random(seed), 1
    for i in range(warm_up):
        for system in systems.values():
            system(rounds[i % len(rounds)])
    if reference is not None:
        once = sample(partial(systems[reference], rounds[0]))
        repeats = min(MAX_REPEATS, max(1, math.ceil(SAMPLE_SECONDS / max(once.cpu, 1e-6))))
    samples: dict[str, list[TimeSample]] = {name: [] for name in systems}
    for i in rounds:
        turns: dict[str, list[TimeSample]] = {name: [] for name in systems}
        for _ in range(repeats):
            for name in order.sample(list(systems), len(systems)):
                turns[name].append(sample(partial(systems[name], i)))
        for name, turn in turns.items():
            cpu, wall = (statistics.fmean(getattr(s, clock) for s in turn) for clock in ("cpu", "wall"))
            samples[name].append(TimeSample(cpu, wall))
        step()
    return samples


def policy_seconds(
    runs: Sequence[tuple[Session, Policy]],
    samples: Sequence[Any],
    *,
    clock: str = "wall",
    progress: Callable[[], object] = lambda: None,
) -> NDArray[np.float64]:
    """Live seconds [runs, samples] of policies from the picture's file to the caption: wall-clock, or the
    process's CPU time (`clock` "cpu", which needs one thread) on machines that others use too.

    samples: anything with a `picture` and a `source`. `progress` is called after each.
    """

    def system(session: Session, policy: Policy) -> System:
        return lambda i: session.run(samples[i].picture, samples[i].source, policy)

    systems = {str(i): system(*run) for i, run in enumerate(runs)}
    times = interleave(systems, None, range(len(samples)), warm_up=3, step=progress)
    return np.array([[getattr(t, clock) for t in times[name]] for name in systems])


def quartiles(values: Sequence[float]) -> Quartiles:
    """Interpolated between the values."""
    return Quartiles(*np.quantile(values, (0.5, 0.25, 0.75)).tolist())


def ratios(system: Sequence[TimeSample], reference: Sequence[TimeSample], clock: str = "cpu") -> Quartiles:
    """Of the paired ratios system / reference; `clock` is "cpu" or "wall"."""
    return quartiles([getattr(a, clock) / getattr(b, clock) for a, b in zip(system, reference)])


def control_problem(ratio: Quartiles) -> str | None:
    """Why a run whose A/A control has this ratio is not to be believed, or None."""
    if not (ratio.low >= 1 - CONTROL_SPREAD and ratio.high <= 1 + CONTROL_SPREAD):
        return f"the A/A control's ratio spreads over {ratio}; quartiles within 1 ± {CONTROL_SPREAD:.2f} are required"
    if not abs(ratio.median - 1) <= CONTROL_MEDIAN:
        return f"the A/A control's median ratio is {ratio.median:.3f}; within 1 ± {CONTROL_MEDIAN:.2f} is required"
    return None


@dataclass(frozen=True)
class SegmentCost:
    """One kind of segment in a caption: calls, and median wall-clock seconds of them all."""

    calls: float
    seconds: float


class SegmentCosts:
    """Watches captions: where their time goes, by kind of segment. The first one, which loads the segments, is
    left out where others follow."""

    def __init__(self) -> None:
        self._captions: list[tuple[Stopwatch, Counter[str]]] = []

    def begin(self) -> Watcher:
        """The watcher of the next caption, which begins now."""
        watch, calls = Stopwatch(), Counter[str]()
        self._captions.append((watch, calls))

        def count(request: Request, answer: Answer) -> None:
            watch(request, answer)
            names = [request.run] if answer.ran is None else [name for name, _ in answer.ran]
            calls.update(map(kind_of, names))

        return count

    def medians(self) -> dict[str, SegmentCost]:
        """Kind of segment → the medians over the captions that ran it."""
        captions = self._captions[1:] or self._captions
        costs = {}
        for kind in dict.fromkeys(kind for _, calls in captions for kind in calls):
            own = [(calls[kind], watch.seconds[kind]) for watch, calls in captions if calls[kind]]
            costs[kind] = SegmentCost(*(statistics.median(column) for column in zip(*own)))
        return costs


def exiting_policy(captioner: Captioner, pictures: Sequence[object]) -> tuple[Policy, str]:
    """A policy of the bundle that exits, and where it comes from.

    The chosen one; else the one next to full depth on the Pareto front; else thresholds at the median
    distance of these pictures ([1, 3, H, W] each), whose quality is unknown.
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
    return policy, "median, uncalibrated: thresholds at the median distance of these pictures"
