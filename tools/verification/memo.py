"""The memo tree against live runs, on real pictures under random policies: `make evidence` runs it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from mue_edge import targets
from mue_edge.bundle.folder import Bundle
from mue_edge.calibrate.traces.trace_store import MemoStore
from mue_edge.calibrate.traces.tracing import Sample, TracedRun, traced_runs
from mue_edge.loop.driver import Runtime
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import Layout, Outcome
from mue_edge.loop.replay import exit_distances, run
from mue_edge.loop.search import SearchSettings
from tools.verification.plain_replay import FULL_DEPTH, full_trace, guess

TRACED = 40  # pictures whose gaps the thresholds are drawn from


@dataclass(frozen=True)
class MemoProof:
    """Counts over all pictures and policies; seconds are CPU time.

    different: memo outcomes, each run twice, that are not the live ones (caption, scores, exits,
    decisions); different_outcomes: those of `traced_runs` (tokens, score, depths). exits_early: runs that
    called fewer segments than full depth. requests: what the live runs asked. live: what the memo ran for
    the same, `again` of it for buffers alone. served_again: requests that a later pass ran. full_layers and
    live_layers: decoder layers a token at full depth and under the policies; guessed_layers: by plain replay.
    """

    pictures: int
    policies: int
    beam: int
    different: int
    different_outcomes: int
    exits_early: int
    requests: int
    live: int
    again: int
    served_again: int
    nodes_per_picture: float
    bytes_per_picture: float
    live_seconds: float
    memo_seconds: float
    served_seconds: float
    outcomes_seconds: float
    full_layers: float
    live_layers: float
    guessed_layers: float


def random_policies(tests: Sequence[tuple[str, float]], count: int, seed: int = 0) -> list[Policy]:
    """Thresholds at random traced gaps, each stack left alone one time in six; beta from
    0.7 to 1, tau from 0 to 2."""
    chance, found = random.Random(seed), []
    gaps: dict[str, list[float]] = {}
    for stack, gap in sorted(tests):
        gaps.setdefault(stack, []).append(gap)
    for i in range(count):
        exits = {stack: StackExit(1 - chance.choice(own)) for stack, own in gaps.items() if chance.random() > 1 / 6}
        beta, tau = chance.uniform(0.7, 1), chance.uniform(0, 2)
        found.append(Policy("mue", exits, beta=beta, tau=tau, name=f"random {i}"))
    return found


def prove(bundle: Bundle, folder: Path, pixels: Sequence[object], count: int, told: Callable[[], None]) -> MemoProof:
    """Every picture under `count` random policies, live and by a fresh memo in `folder`; `told` is called
    for each picture."""
    layout, settings = bundle.manifest.layout, bundle.manifest.search
    live, under = targets.open_runtime(bundle, 1), targets.open_runtime(bundle, 1)
    full = [_full(layout, settings, live, picture) for picture in pixels]
    tests = [test for outcome in full[:TRACED] for test in exit_distances(outcome.decisions)]
    policies = random_policies(tests, count)
    wanted: list[list[Outcome]] = []
    different = requests = ran = again = nodes = served_again = 0
    seconds = {"live": 0.0, "memo": 0.0, "served": 0.0}
    with MemoStore(folder, bundle) as store:
        for i, picture in enumerate(pixels):
            live.set_pixels(picture)
            wanted.append(_runs(layout, settings, policies, live, seconds, "live"))
            memo = store.runtime(str(i), picture, under)
            mine = _runs(layout, settings, policies, memo, seconds, "memo")
            ran, again, first = ran + memo.live, again + memo.again, memo.live
            mine += _runs(layout, settings, policies, memo, seconds, "served")
            served_again += memo.live - first
            different += sum(a != b for a, b in zip(mine, wanted[-1] * 2, strict=True))
            requests += sum(outcome.calls for outcome in wanted[-1])
            nodes += memo.tree.size
            told()
    started = time.process_time()
    samples = [Sample(str(i), x) for i, x in enumerate(pixels)]
    found = list(traced_runs(bundle.path, folder, policies, samples))
    by_tests = time.process_time() - started
    pairs = [
        (mine, theirs)
        for of_sample, of_live in zip(found, wanted, strict=True)
        for mine, theirs in zip(of_sample.runs, of_live, strict=True)
    ]
    guessed = [
        guess(layout, trace, policy, settings.max_length).decoder
        for trace in map(full_trace, full)
        for policy in policies
    ]
    return MemoProof(
        len(pixels),
        count,
        settings.beam,
        different,
        sum(not _same(*pair) for pair in pairs),
        sum(theirs.calls < layout.calls(len(theirs.steps)) for _, theirs in pairs),
        requests,
        ran,
        again,
        served_again + sum(f.live for f in found),
        nodes / len(pixels),
        sum(path.stat().st_size for path in folder.iterdir()) / len(pixels),
        seconds["live"],
        seconds["memo"],
        seconds["served"],
        by_tests,
        mean(step.depth for outcome in full for step in outcome.steps),
        mean(step.depth for _, outcome in pairs for step in outcome.steps),
        mean(depth for depths in guessed for depth in depths),
    )


def _full(layout: Layout, settings: SearchSettings, runtime: Runtime, picture: object) -> Outcome:
    runtime.set_pixels(picture)
    return run(layout, settings, FULL_DEPTH, runtime, trace=True)


def _runs(
    layout: Layout,
    settings: SearchSettings,
    policies: Sequence[Policy],
    runtime: Runtime,
    seconds: dict[str, float],
    kind: str,
) -> list[Outcome]:
    """A run of each policy; adds its CPU time to `seconds`."""
    started = time.process_time()
    found = [run(layout, settings, policy, runtime) for policy in policies]
    seconds[kind] += time.process_time() - started
    return found


def _same(mine: TracedRun, theirs: Outcome) -> bool:
    best, depths = theirs.hypotheses[0], tuple(step.depth for step in theirs.steps)
    return (mine.tokens, mine.score, mine.depths, mine.decoder) == (best.tokens, best.score, theirs.depths, depths)
