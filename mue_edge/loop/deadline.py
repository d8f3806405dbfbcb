"""Deadline mode: the loop walks a front of policies by the clock. Standard library only.

`caption_loop` runs one policy. With a `Deadline` it has faster ones at hand, and a `Pacer` looks at
the clock of every answer: it goes to the slowest policy under which the rest still fits, back to a
slower one when there is time again, leaves a stack at once where no token would fit otherwise, and
ends the caption as the last resort. No segment is started after the deadline, so that a caption
ends at most one segment late. What fits is what the pace of the last calls and captions says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from mue_edge.errors import UsageError
from mue_edge.loop.cache import Cache
from mue_edge.loop.policy import ExitPolicy, Policy, should_exit
from mue_edge.loop.protocol import DECODER, DeadlineResult, Layout, PolicyChange
from mue_edge.loop.search import SearchSettings
from mue_edge.loop.signals import SIGNALS, Reading
from mue_edge.loop.speed import SpeedEstimate

# A slower policy must fit with so much to spare.
SPARE = 1.15
# Where a signal was not read, a test is passed only if it asks for no score.
NOTHING: Reading = ((0.0,), (1.0,))


@dataclass(frozen=True)
class Deadline:
    """A caption is due `limit` seconds after `started`, on the clock of `Answer.now`.

    `spent` of it was gone when the loop started (preprocessing). `faster` are the policies that may
    stand in for the loop's own, fastest first. `speed` is what former captions taught.
    """

    started: float
    limit: float
    spent: float = 0.0
    faster: tuple[Policy, ...] = ()
    speed: SpeedEstimate = field(default_factory=SpeedEstimate)


class OutOfTime(Exception):
    """The caption must end now; never leaves the loop."""


@dataclass(frozen=True)
class _Tests:
    """A policy's thresholds at the boundaries of a stack, and how many segments it can run."""

    thresholds: tuple[float, ...]
    fewest: int
    most: int


class DeadlineController:
    """One caption's walk. `cache` and `cross` are the loop's own: rows and cross K/V that it has."""

    def __init__(
        self,
        layout: Layout,
        policy: ExitPolicy,
        settings: SearchSettings,
        deadline: Deadline,
        cache: Cache,
        cross: set[int],
    ) -> None:
        self._layout, self._cache, self._cross = layout, cache, cross
        self._stacks = {stack.name: stack for stack in layout.stacks}
        self._order = [stack.name for stack in layout.encoders if stack.stages]
        self._deadline, self._speed = deadline, deadline.speed
        self._walk: tuple[ExitPolicy, ...] = (*deadline.faster, policy)
        self._at = len(self._walk) - 1
        self._depths = [self._speed.depths(repr(p)) for p in self._walk]
        self._now = deadline.started + deadline.spent
        self._end = deadline.started + deadline.limit
        self._steps = settings.max_length + 1
        self._max_length = settings.max_length
        self._more = self._speed.remaining_steps(0, self._steps)
        self._runs = [
            {name: p.stages(name, stack.ends) for name, stack in self._stacks.items()} for p in self._walk
        ]
        self._known: dict[tuple[int, str, int], _Tests] = {}
        self._left: dict[int, int] = {}
        self._later: dict[int, float] = {}
        self._walked: list[PolicyChange] = []
        self._forced = 0

    @property
    def policy(self) -> ExitPolicy:
        """The policy that decides now."""
        return self._walk[self._at]

    @property
    def walk(self) -> tuple[ExitPolicy, ...]:
        """All policies that may decide, fastest first."""
        return self._walk

    def check(self) -> None:
        """Before a segment: none starts after the deadline."""
        if self._now >= self._end:
            raise OutOfTime

    def saw(self, run: str, now: float) -> None:
        """After a segment. Raises UsageError if its clock cannot be the deadline's."""
        if now < self._now:
            raise UsageError(
                f"the runtime's clock went from {self._now:.6f} to {now:.6f} s; a deadline needs one that is "
                "monotonic and the caller's (Answer.now): run without a deadline"
            )
        self._speed.record(run, now - self._now)
        self._now = now

    def enter(self, stack: str, step: int = 0) -> None:
        """Before a stack's or step's first segment: which policy, and whether a step is still given."""
        self._left.clear()
        self._later.clear()
        if stack == DECODER:
            self._more = self._speed.remaining_steps(step, self._steps)
        self._choose(stack, step, 0, back=True)
        if step and self._step(self._at, step, 0) > self._end - self._now:
            raise OutOfTime

    def reads(self, stack: str, step: int, i: int) -> set[str]:
        """The signals that policies of the walk test after segment i: each may be the one by then, and
        what it would have done is how its depths are learnt."""
        return {
            name
            for k, policy in enumerate(self._walk)
            if (name := policy.signal(stack)) is not None
            and math.isfinite(self._tests(k, stack, step).thresholds[i])
        }

    def threshold(self, stack: str, step: int, i: int) -> float:
        """Of the test after segment i, by the policy that the clock allows now."""
        if self._at and i + 1 < len(self._stacks[stack].stages):
            self._choose(stack, step, i + 1, back=False)
        return self._tests(self._at, stack, step).thresholds[i]

    def must_leave(self, stack: str, i: int) -> bool:
        """Whether one segment more than segment i would leave no time for a token. Counts as forced."""
        if i + 1 == len(self._stacks[stack].stages) or self._least(stack, i + 1) <= self._end - self._now:
            return False
        self._forced += 1
        return True

    def learn(self, stack: str, step: int, i: int, readings: Mapping[str, Reading]) -> None:
        """What was read after segment i: which policies would have left here."""
        for k, policy in enumerate(self._walk):
            threshold = self._tests(k, stack, step).thresholds[i]
            read = readings.get(policy.signal(stack) or "", NOTHING)
            if k not in self._left and all(should_exit(s, g, threshold) for s, g in zip(*read)):
                self._left[k] = i + 1

    def left(self, stack: str, i: int) -> None:
        """The stack was left after segment i, or ended there."""
        early = i + 1 < len(self._stacks[stack].stages)
        for k, depths in enumerate(self._depths):
            if k in self._left:
                self._speed.record_depth(depths, stack, self._left[k])
            else:
                self._speed.record_depth(depths, stack, i + 1 + early, at_least=early)

    def end(self, steps: int, *, cut: bool) -> DeadlineResult:
        """The caption ended after so many steps."""
        self._speed.record_caption(steps, cut=cut)
        limit, finished = self._deadline.limit, self._now - self._deadline.started
        return DeadlineResult(limit, finished, tuple(self._walked), self._forced, cut)

    def _choose(self, stack: str, step: int, i: int, *, back: bool) -> None:
        """The slowest policy under which the rest, from segment i on, fits; the fastest if none does.
        `back`: one policy slower than the present one may be taken, if it fits with time to spare."""
        left, before = self._end - self._now, self._at
        if self._need(self._at, stack, step, i) > left:
            fitting = (k for k in reversed(range(self._at)) if self._need(k, stack, step, i) <= left)
            self._at = next(fitting, 0)
        elif back and self._at + 1 < len(self._walk):
            slower = self._need(self._at + 1, stack, step, i)
            self._at += slower * SPARE <= left
        if self._at != before or not self._walked:
            depth = self._stacks[stack].ends[i - 1] if i else 0
            self._walked.append(PolicyChange(stack, step, depth, name(self.policy)))

    def _need(self, k: int, stack: str, step: int, i: int) -> float:
        """Seconds of the rest under policy k, from segment i of this stack and step on.

        The mean caption must fit under this policy, and a long one under the fastest after this step.
        """
        before = 0.0
        if stack != DECODER:
            before, step = self._encoder(k, stack, i), 0
            i = 0
        later = self._later.get(k)
        if later is None:  # once a step: most of the planning's cost
            mean, most = self._more
            each = self._step(k, step)
            quick = min(each, self._step(0, step)) if k else each
            later = self._later[k] = max((mean - 1) * each, (most - 1) * quick)
        return (before + self._step(k, step, i) + later) * self._speed.caution

    def _encoder(self, k: int, stack: str, i: int) -> float:
        """Seconds of the rest of the encoder under policy k."""
        total = self._segments(k, stack, i, self._expected(k, stack, 0)) + (0 if i else self._stem(stack))
        for later in self._after(stack):
            total += self._stem(later) + self._segments(k, later, 0, self._expected(k, later, 0))
        return total

    def _step(self, k: int, step: int, i: int | None = None) -> float:
        """Seconds of a step under policy k, or of the present one from segment i on, with the cross
        K/V and the rows that it still lacks."""
        until = self._expected(k, DECODER, step)
        seconds = self._segments(k, DECODER, i or 0, until) + self._speed.seconds("head")
        if not i:
            seconds += self._speed.seconds("embed")
        if i is not None:
            run = self._running(k, DECODER, i, until)
            seconds += sum(self._prepare(j) * min(1.0, until - j) for j in run)
        name = self._walk[k].signal(DECODER)
        if name is not None and SIGNALS[name].from_head:  # tests that are not passed cost a head
            asked = self._tests(k, DECODER, step).thresholds[i or 0 : math.ceil(until) - 1]
            heads = sum(SIGNALS[name].needs_history or math.isfinite(threshold) for threshold in asked)
            seconds += heads * self._speed.seconds("head")
            if SIGNALS[name].states != "y":
                seconds += (heads + 1) * self._speed.seconds(f"{SIGNALS[name].states}.{i or 0}")
        return seconds

    def _least(self, stack: str, i: int) -> float:
        """Seconds of segment i, and of the least that gives a token after it."""
        seconds = self._speed.seconds
        if stack == DECODER:
            return self._prepare(i) + seconds(self._layout.decoder.stages[i].name) + seconds("head")
        total = seconds(self._stacks[stack].stages[i].name)
        for later in self._after(stack):
            total += self._stem(later) + seconds(self._stacks[later].stages[0].name)
        return (
            total
            + seconds("embed")
            + self._prepare(0)
            + seconds(self._layout.decoder.stages[0].name)
            + seconds("head")
        )

    def _segments(self, k: int, stack: str, first: int, until: float) -> float:
        """Seconds of segments first, first + 1 … of a stack, `until` (a mean) of them counted from 0, of
        those that policy k runs."""
        stages, run = self._stacks[stack].stages, self._running(k, stack, first, until)
        return sum(self._speed.seconds(stages[i].name) * min(1.0, until - i) for i in run)

    def _running(self, k: int, stack: str, first: int, until: float) -> list[int]:
        return [i for i in self._runs[k][stack] if first <= i < until]

    def _prepare(self, j: int) -> float:
        """Seconds of what decoder segment j lacks now."""
        cross = 0.0 if j in self._cross else self._speed.seconds(f"cross_kv.{j}")
        fills = math.ceil(len(self._cache.pending(j)) / self._layout.fill_rows)
        return cross + (fills * self._speed.seconds(f"fill.{j}") if fills else 0.0)

    def _after(self, stack: str) -> list[str]:
        """The encoders that run after this one."""
        return self._order[self._order.index(stack) + 1 :]

    def _stem(self, stack: str) -> float:
        stems = (self._stacks[stack].stem, self._stacks[stack].joins)
        return sum(self._speed.seconds(stem) for stem in stems if stem)

    def _expected(self, k: int, stack: str, step: int) -> float:
        """Segments that policy k will run; half of what is open if it was never seen."""
        tests = self._tests(k, stack, step)
        mean = self._depths[k].get(stack, (tests.fewest + tests.most) / 2)
        return min(max(mean, tests.fewest), tests.most)

    def _tests(self, k: int, stack: str, step: int) -> _Tests:
        found = self._known.get((k, stack, step))
        if found is None:
            stages, policy = self._stacks[stack].stages, self._walk[k]
            thresholds = [policy.threshold(stack, s.depth, step, self._max_length) for s in stages[:-1]]
            thresholds.append(math.inf)
            n = len(thresholds)
            fewest = next((i + 1 for i, t in enumerate(thresholds) if t < math.inf), n)
            most = next((i + 1 for i, t in enumerate(thresholds) if t == -math.inf), n)
            found = self._known[k, stack, step] = _Tests(tuple(thresholds), fewest, most)
        return found


def name(policy: ExitPolicy) -> str:
    """What a trace calls a policy."""
    return (policy.name or policy.rule) if isinstance(policy, Policy) else type(policy).__name__
