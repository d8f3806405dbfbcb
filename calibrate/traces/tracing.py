"""Many policies over many samples: what each would do to each, found with few live runs.

A sample at a time, its policies in an order in which neighbours run alike. Runs go through the memo
tree (`memo.py`). Above it stands a tree of exit tests: policies that pass the same tests do the same, so
the second of them is found without running the loop. Both are exact. Policies must be pure functions
of what `ExitPolicy.threshold` is given. numpy only for pictures.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from mue_edge import targets
from mue_edge.bundle.folder import open_bundle
from mue_edge.calibrate.traces.memo import MemoRuntime
from mue_edge.calibrate.traces.trace_store import MemoStore
from mue_edge.errors import EnvironmentLacksError
from mue_edge.loop import replay
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import Runtime, drive
from mue_edge.loop.exit_tests import runs_head
from mue_edge.loop.policy import ExitPolicy, Policy, should_exit
from mue_edge.loop.protocol import DECODER, ExitDecision, Layout, Outcome
from mue_edge.loop.search import new_search

AHEAD = 4  # samples that wait for each worker
NOT_READ = (0.0, 1.0)  # by a policy whose tests ask for no score
Result = TypeVar("Result")  # of a sample
# Label and number of steps → a context that gives what to call after each step.
Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True)
class Sample:
    """A picture: a path, encoded bytes, or the network's input float32 [1, 3, H, W]; `source`: ids of the
    text that comes with it, where the model reads one."""

    id: str
    picture: Any
    source: tuple[int, ...] = ()


@dataclass(frozen=True)
class TracedRun:
    """What a policy does to a sample: the best caption, layers run by each encoder stack and by each
    decoder step, and the segments called, in order (what `Profile.predict` takes)."""

    tokens: tuple[int, ...]
    score: float
    depths: Mapping[str, int]
    decoder: tuple[int, ...]
    segments: tuple[str, ...]


@dataclass(frozen=True)
class SampleRuns:
    """A sample's runs, in the policies' order. `live`: requests that a runtime had to run for them;
    `again`: those among them that were run a second time; `nodes`: answers that the sample's trace has."""

    sample: str
    runs: tuple[TracedRun, ...]
    live: int
    again: int
    nodes: int


# Whether a test was passed, and what the head read after it ("": nothing).
_Way = tuple[bool, str]
# Segments of each stack that a policy may run.
_Order = tuple[tuple[int, ...], ...]


@dataclass
class _Test:
    """An exit test that runs came to: of every signal that was read the lowest score and the widest
    distance of the rows, and what came after each way."""

    stack: str
    depth: int
    step: int
    readings: dict[str, tuple[float, float]]
    after: dict[_Way, _Test | TracedRun]


class TestTree:
    """One sample's runs by the exit tests that they passed."""

    __test__ = False  # not a test, whatever pytest thinks

    def __init__(self, layout: Layout, max_length: int) -> None:
        self._ends = layout.depths()  # there nobody asks the policy
        self._max_length = max_length
        self._stacks = layout.stacks
        self._first: dict[_Order, _Test | TracedRun] = {}

    def find(self, policy: ExitPolicy) -> TracedRun | None:
        """The policy's run, if a run that passed the same tests is known."""
        at = self._first.get(self._order(policy))
        while isinstance(at, _Test):
            threshold = policy.threshold(at.stack, at.depth, at.step, self._max_length)
            signal = policy.signal(at.stack) or ""
            if math.isfinite(threshold) and signal not in at.readings:
                return None
            score, distance = at.readings.get(signal, NOT_READ)
            at = at.after.get(_way(policy, at.stack, threshold, should_exit(score, distance, threshold)))
        return at

    def add(self, policy: ExitPolicy, outcome: Outcome, run: TracedRun) -> None:
        """A policy's run, and its outcome with every test traced."""
        after: dict[Any, _Test | TracedRun] = self._first
        way: Any = self._order(policy)
        for d in outcome.decisions:
            if d.depth == self._ends.get(d.stack):
                continue
            test = after.get(way)
            if not isinstance(test, _Test):
                test = after[way] = _Test(d.stack, d.depth, d.step, {}, {})
            test.readings |= {name: (min(scores), max(distances)) for name, (scores, distances) in d.readings.items()}
            after, way = test.after, _way(policy, d.stack, d.threshold, d.exit)
        after[way] = run

    def _order(self, policy: ExitPolicy) -> _Order:
        return tuple(policy.stages(stack.name, stack.ends) for stack in self._stacks if stack.stages)


def _way(policy: ExitPolicy, stack: str, threshold: float, passed: bool) -> _Way:
    reads_head = (passed and stack == DECODER) or runs_head(policy, stack, threshold)
    return passed, policy.head_states if reads_head else ""


class Tracer:
    """Policies over one sample after another, with a runtime of its own."""

    def __init__(self, bundle: str, folder: str, policies: Sequence[Policy]) -> None:
        opened = open_bundle(bundle)
        self._store, self._runtime = MemoStore(folder, opened), targets.open_runtime(opened, 1)
        self._layout, self._preprocess = opened.manifest.layout, opened.manifest.preprocess
        self._settings = opened.manifest.search
        self._policies = policies
        self._order = sorted(range(len(policies)), key=lambda i: self._kin(policies[i]))

    def runs(self, sample: Sample) -> SampleRuns:
        """Every policy's run of a sample."""
        memo = self._memo(sample)
        tree = TestTree(self._layout, self._settings.max_length)
        by_policy: dict[int, TracedRun] = {}
        for i in self._order:
            run = tree.find(self._policies[i])
            if run is None:
                outcome, run = self._new(self._policies[i], memo, sample.source)
                tree.add(self._policies[i], outcome, run)
            by_policy[i] = run
        runs = tuple(by_policy[i] for i in range(len(self._policies)))
        return SampleRuns(sample.id, runs, memo.live, memo.again, memo.tree.size)

    def decisions(self, sample: Sample) -> tuple[ExitDecision, ...]:
        """The first policy's decisions on a sample, every signal read at every boundary that it reaches."""
        memo, policy = self._memo(sample), self._policies[0]
        return replay.run(
            self._layout, self._settings, policy, memo, trace=True, heads=True, source=sample.source
        ).decisions

    def close(self) -> None:
        """Close the store and the runtime."""
        self._store.close()
        self._runtime.close()

    def _memo(self, sample: Sample) -> MemoRuntime:
        pixels = sample.picture
        if isinstance(pixels, (str, Path, bytes)):
            from mue_edge.inputs import image

            pixels = image.network_input(self._preprocess, pixels)
        return self._store.runtime(sample.id, pixels, self._runtime, sample.source)

    def _new(self, policy: Policy, memo: Runtime, source: Sequence[int]) -> tuple[Outcome, TracedRun]:
        segments: list[str] = []
        loop = caption_loop(self._layout, policy, new_search(self._settings, source), trace=True)
        outcome = drive(loop, memo, lambda request, _: segments.append(request.run))
        best = outcome.hypotheses[0]
        depths = tuple(step.depth for step in outcome.steps)
        return outcome, TracedRun(best.tokens, best.score, outcome.depths, depths, tuple(segments))

    def _kin(self, policy: Policy) -> list[float]:
        """Sorted by this, policies that leave the encoder alike are neighbours, shallow ones first: going
        deeper needs no second stem, going back does."""
        ask, layout, longest = policy.threshold, self._layout, self._settings.max_length
        key = [ask(stack.name, depth) for stack in layout.encoders for depth in stack.ends[:-1]]
        for step in (0, longest // 2, longest):
            key += [ask(DECODER, depth, step, longest) for depth in layout.decoder.ends[:-1]]
        return key


def traced_runs(
    bundle: str | Path, folder: str | Path, policies: Sequence[Policy], samples: Sequence[Sample], *, workers: int = 1
) -> Iterator[SampleRuns]:
    """What every policy does to every sample, in the samples' order.

    Answers are kept in `folder`, so that a run that was stopped goes on where it was. Each of `workers`
    processes opens a runtime of its own; results do not depend on their number.
    """
    return _each((str(bundle), str(folder), tuple(policies)), Tracer.runs, samples, workers)


def traced_decisions(
    bundle: str | Path, folder: str | Path, policy: Policy, samples: Sequence[Sample], *, workers: int = 1
) -> Iterator[tuple[ExitDecision, ...]]:
    """One policy's decisions on every sample, as `traced_runs` finds its runs: kept, and by processes."""
    return _each((str(bundle), str(folder), (policy,)), Tracer.decisions, samples, workers)


_Job = tuple[str, str, tuple[Policy, ...]]  # of a tracer: bundle, folder, policies
_tracer: Tracer | None = None  # a worker process's own


def _start(job: _Job) -> None:
    global _tracer
    _tracer = Tracer(*job)


def _work(find: Callable[[Tracer, Sample], Result], sample: Sample) -> Result:
    assert _tracer is not None
    return find(_tracer, sample)


def _each(
    job: _Job, find: Callable[[Tracer, Sample], Result], samples: Sequence[Sample], workers: int
) -> Iterator[Result]:
    """By sample, over processes; a few wait for each, so that memory does not grow with their number."""
    if workers == 1:
        with closing(Tracer(*job)) as tracer:
            yield from (find(tracer, sample) for sample in samples)
        return
    # Spawned: a runtime's threads do not survive a fork.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start, (job,))
    waiting: deque[Future[Result]] = deque()
    try:
        for sample in samples:
            waiting.append(pool.submit(_work, find, sample))
            if len(waiting) >= workers * AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as problem:
        raise EnvironmentLacksError(
            "a tracing process was killed (out of memory?); run again with fewer workers: traces are kept"
        ) from problem
    finally:
        pool.shutdown(cancel_futures=True)
