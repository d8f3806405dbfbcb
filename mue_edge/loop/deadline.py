"""Which policy decides: one throughout, or with a deadline those of a Pareto front, by the clock.

`caption_loop` asks a `PolicyController`, which has one policy. With a `Deadline` it asks a
`DeadlineController`, which looks at the clock of every answer: it goes to the slowest policy under which the
rest still fits, back to a slower one when there is time again, exits a stack at once where no token would fit
otherwise, and ends the caption as the last resort. No segment is started after the deadline, so that a
caption ends at most one segment late. Times are those that `SpeedEstimate` expects. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mue_edge.errors import UsageError
from mue_edge.loop.cache import Cache
from mue_edge.loop.policy import ExitPolicy, Policy, should_exit
from mue_edge.loop.protocol import DECODER, DeadlineResult, Layout, PolicyChange, Stack
from mue_edge.loop.signals import SIGNALS, Reading
from mue_edge.loop.speed import SpeedEstimate

# A slower policy must fit with so much to spare.
SPARE = 1.15
# Where a signal was not read, a test is passed only if it needs no score.
NOTHING: Reading = ((0.0,), (1.0,))


@dataclass(frozen=True)
class Deadline:
    """A caption is due `limit` seconds after `started`, on the clock of `Answer.now`.

    `spent` of it was gone when the loop started (preprocessing). `faster` are the policies that may
    stand in for the loop's own, fastest first. `speed` was learnt from former captions.
    """

    started: float
    limit: float
    spent: float = 0.0
    faster: tuple[Policy, ...] = ()
    speed: SpeedEstimate = field(default_factory=SpeedEstimate)


class OutOfTime(Exception):
    """The caption must end now; never leaves the loop."""


class PolicyController:
    """One policy decides, without a clock."""

    def __init__(self, policies: Sequence[ExitPolicy], max_length: int) -> None:
        self.policies = policies  # those that may decide, fastest first
        self.max_length = max_length
        self._current = len(policies) - 1
        self._known_thresholds: dict[tuple[int, str, int], list[float]] = {}
        self._following: dict[tuple[int, str], list[int | None]] = {}

    @property
    def policy(self) -> ExitPolicy:
        """The policy that decides now."""
        return self.policies[self._current]

    def next_segment(self, stack: Stack, i: int) -> int | None:
        """The segment after segment i (−1: the first) under the present policy."""
        key = self._current, stack.name
        if key not in self._following:
            stages = self.policy.stages(stack.name, stack.ends)
            after = [next((j for j in stages if j > i), None) for i in range(-1, len(stack.ends))]
            self._following[key] = after
        return self._following[key][i + 1]

    def threshold(self, stack: Stack, step: int, i: int) -> float:
        """Of the present policy's test after segment i; the last segment has none."""
        return self._thresholds(self._current, stack, step)[i]

    def signals(self, stack: Stack, step: int, i: int) -> set[str]:
        """What any of the policies tests after segment i: each may be the present one by then, and the depth
        at which it would have exited is learnt."""
        return {
            name
            for k, policy in enumerate(self.policies)
            if (name := policy.signal(stack.name)) is not None and math.isfinite(self._thresholds(k, stack, step)[i])
        }

    def _thresholds(self, k: int, stack: Stack, step: int) -> list[float]:
        """Of policy k, by segment."""
        key = k, stack.name, step
        if key not in self._known_thresholds:
            threshold = self.policies[k].threshold
            tested = [threshold(stack.name, stage.depth, step, self.max_length) for stage in stack.stages[:-1]]
            self._known_thresholds[key] = [*tested, math.inf]
        return self._known_thresholds[key]

    def before_segment(self) -> None:
        """Raises OutOfTime where no segment may start."""

    def after_segment(self, run: str, now: float) -> None:
        """Segment `run` ended at `now`."""

    def begin(self, stack: Stack, step: int = 0) -> None:
        """A stack's or step's first segment is next. Raises OutOfTime where no step may start."""

    def learn(self, stack: Stack, step: int, i: int, readings: Mapping[str, Reading]) -> None:
        """Signals were read after segment i."""

    def update(self, stack: Stack, step: int, i: int) -> None:
        """Segment i has run: another policy may decide from here on."""

    def must_exit(self, stack: Stack, i: int) -> bool:
        """Whether the clock ends the stack after segment i."""
        return False

    def record_exit(self, stack: Stack, i: int) -> None:
        """The stack ended after segment i."""

    def finish(self, steps: int, *, cut: bool) -> DeadlineResult | None:
        """The caption ended after so many steps, `cut` by the clock."""
        return None


class DeadlineController(PolicyController):
    """The clock chooses. `cache` and `cross` are the loop's own: rows and cross K/V that it has."""

    def __init__(
        self, layout: Layout, policy: ExitPolicy, max_length: int, deadline: Deadline, cache: Cache, cross: set[int]
    ) -> None:
        super().__init__((*deadline.faster, policy), max_length)
        self._layout, self._cache, self._cross = layout, cache, cross
        self._deadline, self._speed = deadline, deadline.speed
        self._depths = [self._speed.depths(repr(p)) for p in self.policies]
        self._now = deadline.started + deadline.spent
        self._end = deadline.started + deadline.limit
        self._remaining = self._speed.remaining_steps(0, max_length + 1)
        self._encoders = [stack for stack in layout.encoders if stack.stages]
        self._runs = [{stack.name: p.stages(stack.name, stack.ends) for stack in layout.stacks} for p in self.policies]
        # By policy: segments after which it would have exited the present stack; seconds of later steps.
        self._exits: dict[int, int] = {}
        self._later: dict[int, float] = {}
        self._changes: list[PolicyChange] = []
        self._forced = 0

    def before_segment(self) -> None:
        if self._now >= self._end:
            raise OutOfTime

    def after_segment(self, run: str, now: float) -> None:
        if now < self._now:
            raise UsageError(
                f"the runtime's clock went from {self._now:.6f} to {now:.6f} s; a deadline needs one that is "
                "monotonic and the caller's (Answer.now): run without a deadline"
            )
        self._speed.record(run, now - self._now)
        self._now = now

    def begin(self, stack: Stack, step: int = 0) -> None:
        self._exits.clear()
        self._later.clear()
        if stack.name == DECODER:
            self._remaining = self._speed.remaining_steps(step, self.max_length + 1)
        self._choose(stack, step, 0, slower=True)
        if step and self._step(self._current, step, 0) > self._end - self._now:
            raise OutOfTime

    def learn(self, stack: Stack, step: int, i: int, readings: Mapping[str, Reading]) -> None:
        for k, policy in enumerate(self.policies):
            threshold = self._thresholds(k, stack, step)[i]
            reading = readings.get(policy.signal(stack.name) or "", NOTHING)
            if k not in self._exits and all(should_exit(*row, threshold) for row in zip(*reading)):
                self._exits[k] = i + 1

    def update(self, stack: Stack, step: int, i: int) -> None:
        if self._current and i + 1 < len(stack.stages):
            self._choose(stack, step, i + 1, slower=False)

    def must_exit(self, stack: Stack, i: int) -> bool:
        if i + 1 == len(stack.stages) or self._least(stack, i + 1) <= self._end - self._now:
            return False
        self._forced += 1
        return True

    def record_exit(self, stack: Stack, i: int) -> None:
        early = i + 1 < len(stack.stages)
        for k, depths in enumerate(self._depths):
            if k in self._exits:
                self._speed.record_depth(depths, stack.name, self._exits[k])
            else:
                self._speed.record_depth(depths, stack.name, i + 1 + early, at_least=early)

    def finish(self, steps: int, *, cut: bool) -> DeadlineResult:
        self._speed.record_caption(steps, cut=cut)
        limit, finished = self._deadline.limit, self._now - self._deadline.started
        return DeadlineResult(limit, finished, tuple(self._changes), self._forced, cut)

    def _choose(self, stack: Stack, step: int, i: int, *, slower: bool) -> None:
        """The slowest policy under which the rest, from segment i on, fits; the fastest if none does.
        `slower`: one policy slower than the present one may be taken, if it fits with time to spare."""
        left, before = self._end - self._now, self._current
        if self._rest(before, stack, step, i) > left:
            fitting = (k for k in reversed(range(before)) if self._rest(k, stack, step, i) <= left)
            self._current = next(fitting, 0)
        elif slower and before + 1 < len(self.policies):
            self._current += self._rest(before + 1, stack, step, i) * SPARE <= left
        if self._current != before or not self._changes:
            depth = stack.ends[i - 1] if i else 0
            self._changes.append(PolicyChange(stack.name, step, depth, self.policy.label))

    def _rest(self, k: int, stack: Stack, step: int, i: int) -> float:
        """Seconds of the rest under policy k, from segment i of this stack and step on.

        The mean caption must fit under this policy, and a long one under the fastest after this step.
        """
        encoders = 0.0
        if stack.name != DECODER:
            encoders, step = self._encoders_from(k, stack, i), 0
            i = 0
        if k not in self._later:  # once a step: most of the planning's cost
            mean, most = self._remaining
            each = self._step(k, step)
            fastest = min(each, self._step(0, step)) if k else each
            self._later[k] = max((mean - 1) * each, (most - 1) * fastest)
        return (encoders + self._step(k, step, i) + self._later[k]) * self._speed.caution

    def _encoders_from(self, k: int, stack: Stack, i: int) -> float:
        """Seconds of the encoders under policy k, from segment i of this one on."""
        total = self._segments(k, stack, i, self._expected(k, stack, 0)) + (0 if i else self._stem(stack))
        for later in self._after(stack):
            total += self._stem(later) + self._segments(k, later, 0, self._expected(k, later, 0))
        return total

    def _step(self, k: int, step: int, i: int | None = None) -> float:
        """Seconds of a step under policy k, or of the present one from segment i on, with the cross
        K/V and the rows that it still lacks."""
        decoder, seconds_of, first = self._layout.decoder, self._speed.seconds, i or 0
        until = self._expected(k, decoder, step)
        seconds = self._segments(k, decoder, first, until) + seconds_of("head")
        if not first:
            seconds += seconds_of("embed")
        if i is not None:
            run = self._running(k, decoder, first, until)
            seconds += sum(self._prepare(j) * min(1.0, until - j) for j in run)
        name = self.policies[k].signal(DECODER)
        if name is not None and SIGNALS[name].from_head:  # tests that are not passed cost a head
            signal, tested = SIGNALS[name], self._thresholds(k, decoder, step)[first : math.ceil(until) - 1]
            heads = sum(signal.needs_history or math.isfinite(threshold) for threshold in tested)
            seconds += heads * seconds_of("head")
            if signal.states != "y":
                seconds += (heads + 1) * seconds_of(f"{signal.states}.{first}")
        return seconds

    def _least(self, stack: Stack, i: int) -> float:
        """Seconds of segment i, and of the least that gives a token after it."""
        seconds, decoder = self._speed.seconds, self._layout.decoder
        if stack.name == DECODER:
            return self._prepare(i) + seconds(stack.stages[i].name) + seconds("head")
        total = seconds(stack.stages[i].name) + seconds("embed") + self._prepare(0)
        for later in self._after(stack):
            total += self._stem(later) + seconds(later.stages[0].name)
        return total + seconds(decoder.stages[0].name) + seconds("head")

    def _segments(self, k: int, stack: Stack, first: int, until: float) -> float:
        """Seconds of segments first, first + 1 … of a stack, `until` (a mean) of them counted from 0, of
        those that policy k runs."""
        run = self._running(k, stack, first, until)
        return sum(self._speed.seconds(stack.stages[i].name) * min(1.0, until - i) for i in run)

    def _running(self, k: int, stack: Stack, first: int, until: float) -> list[int]:
        return [i for i in self._runs[k][stack.name] if first <= i < until]

    def _prepare(self, j: int) -> float:
        """Seconds of what decoder segment j lacks now."""
        cross = 0.0 if j in self._cross else self._speed.seconds(f"cross_kv.{j}")
        fills = math.ceil(len(self._cache.pending(j)) / self._layout.fill_rows)
        return cross + (fills * self._speed.seconds(f"fill.{j}") if fills else 0.0)

    def _after(self, stack: Stack) -> list[Stack]:
        """The encoders that run after this one."""
        return self._encoders[self._encoders.index(stack) + 1 :]

    def _stem(self, stack: Stack) -> float:
        return sum(self._speed.seconds(stem) for stem in (stack.stem, stack.joins) if stem)

    def _expected(self, k: int, stack: Stack, step: int) -> float:
        """Segments that policy k will run; half of what is open if it was never seen."""
        thresholds = self._thresholds(k, stack, step)
        fewest = next((i for i, t in enumerate(thresholds, 1) if t < math.inf), len(thresholds))
        most = next((i for i, t in enumerate(thresholds, 1) if t == -math.inf), len(thresholds))
        mean = self._depths[k].get(stack.name, (fewest + most) / 2)
        return min(max(mean, fewest), most)
