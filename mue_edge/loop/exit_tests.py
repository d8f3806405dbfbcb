"""The exit tests of one caption: what is read, what the head is asked, whether a stack is left.

The loop reports what a segment put out (`seen`) and what the head said of its states (`hear`); the policy,
or a deadline's pacer, decides (`leave`). Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mue_edge.errors import UsageError, VerificationError
from mue_edge.loop.deadline import DeadlineController
from mue_edge.loop.policy import ALWAYS, ExitPolicy, should_exit
from mue_edge.loop.protocol import DECODER, ExitDecision, Layout
from mue_edge.loop.signals import SIGNALS, Candidates, Reading

Scalars = Mapping[str, Sequence[float]]
NO_HEADS = (
    "its model had no heads for it. Train them (mue-edge train --heads) and export again, or choose another "
    "policy"
)


def asks_head(policy: ExitPolicy, stack: str, threshold: float) -> bool:
    """Whether a policy's test with that threshold runs the head; one that remembers does so at every boundary
    that is not left without a test."""
    name = policy.signal(stack)
    if name is None or not SIGNALS[name].from_head:
        return False
    return math.isfinite(threshold) or (SIGNALS[name].needs_history and threshold > 0)


@dataclass
class Test:
    """The test after segment i of a stack: its threshold, and what was read of the live rows by signal."""

    __test__ = False  # not a test, whatever pytest thinks

    stack: str
    i: int
    step: int
    live: int
    threshold: float
    readings: dict[str, Reading]


class ExitTests:
    """`trace`: every score is read, also where none can exit; `heads`: the head runs after every segment of
    the decoder."""

    def __init__(
        self,
        layout: Layout,
        policy: ExitPolicy,
        controller: DeadlineController | None,
        *,
        trace: bool,
        heads: bool,
    ) -> None:
        self._stacks = {stack.name: stack.stages for stack in layout.stacks}
        self._policy, self._controller, self._trace, self._heads = policy, controller, trace, heads
        self.decisions: list[ExitDecision] = []
        self._foretold: Scalars = {}
        self._heard: list[Sequence[Candidates]] = []
        self._passed = 0

    @property
    def policy(self) -> ExitPolicy:
        """The one that decides now."""
        return self._policy if self._controller is None else self._controller.policy

    @property
    def walk(self) -> tuple[ExitPolicy, ...]:
        """All that may decide."""
        return (self._policy,) if self._controller is None else self._controller.walk

    @property
    def may_ask_head(self) -> bool:
        """Whether a test may need the head before the step's last segment."""
        return self._heads or any(SIGNALS[name].from_head for name in self._names(DECODER))

    def begin(self, foretold: Scalars | None = None) -> None:
        """A stack begins, of whose boundaries its stem said this, or a step of the decoder."""
        self._foretold, self._heard, self._passed = foretold or {}, [], 0

    def stem_ports(self, stack: str) -> dict[str, bool]:
        """What the stack's stem puts out for its tests, and whether anybody reads it."""
        given = {name for stage in self._stacks[stack] for name in stage.signals if SIGNALS[name].from_stem}
        asked = given if self._trace else given & self._names(stack)
        return {port: name in asked for name in sorted(given) for port in SIGNALS[name].ports}

    def threshold(self, stack: str, i: int, step: int, max_length: int) -> float:
        """Of the test after segment i, as far as it is known before; the last segment has none."""
        stages = self._stacks[stack]
        if i + 1 == len(stages):
            return math.inf
        return self.policy.threshold(stack, stages[i].depth, step, max_length)

    def reads(self, stack: str, step: int, i: int, threshold: float) -> tuple[str, ...]:
        """Ports of the signals that somebody asks for after segment i."""
        stage = self._stacks[stack][i]
        if self._trace:
            names: Iterable[str] = stage.signals
        else:
            own = self.policy.signal(stack)
            tested = set() if own is None or math.isinf(threshold) else {own}
            names = tested if self._controller is None else self._controller.reads(stack, step, i) | tested
        for name in names:
            if name not in stage.signals and not SIGNALS[name].from_head:
                raise UsageError(
                    f"this bundle gives no {name} of {stack} after layer {stage.depth}: {NO_HEADS}"
                )
        return tuple(port for name in names if not SIGNALS[name].from_stem for port in SIGNALS[name].ports)

    def foretells(self, stack: str, i: int, threshold: float) -> bool:
        """Whether the stack will be left after segment i by what its stem said."""
        name = self.policy.signal(stack)
        if name is None or not SIGNALS[name].from_stem or math.isinf(threshold):
            return threshold < 0
        depth = self._stacks[stack][i].depth
        return all(
            should_exit(s, g, threshold) for s, g in zip(*SIGNALS[name].read_stem(self._foretold, depth))
        )

    def seen(self, stack: str, i: int, step: int, live: int, threshold: float, scalars: Scalars) -> Test:
        """Segment i has run and put out these scalars. A deadline may change the threshold."""
        stage = self._stacks[stack][i]
        readings: dict[str, Reading] = {}
        for name in stage.signals:
            signal = SIGNALS[name]
            found = self._foretold if signal.from_stem else scalars
            if signal.ports and signal.ports[0] in found:
                readings[name] = (
                    signal.read_stem(found, stage.depth) if signal.from_stem else signal.read(found, live)
                )
        for name, reading in readings.items():
            if not all(map(math.isfinite, reading[0] + reading[1])):
                raise VerificationError(
                    f"the exit score of {stack} after layer {stage.depth} (step {step}, {name}) is not "
                    f"finite: {reading[0]}; check the bundle with: mue-edge verify BUNDLE"
                )
        self._passed += 1
        if self._controller is not None:
            self._controller.learn(stack, step, i, readings)
            threshold = self._controller.threshold(stack, step, i)
        return Test(stack, i, step, live, threshold, readings)

    def asks(self, test: Test) -> tuple[str, ...]:
        """States that the head must say something of."""
        stages = self._stacks[test.stack]
        if test.stack != DECODER or test.i + 1 == len(stages):
            return ()
        if self._heads:
            return stages[test.i].states
        if asks_head(self.policy, DECODER, test.threshold):
            return (self.words(test.i),)
        # A policy that may take over has to remember what the head said before it did.
        needs_history = any(SIGNALS[name].needs_history for name in self._names(DECODER))
        return ("y",) if needs_history and len(self.walk) > 1 else ()

    def words(self, i: int) -> str:
        """The states that the head reads if the step is left after decoder segment i."""
        stages, states = self._stacks[DECODER], self.policy.head_states
        if i + 1 < len(stages) and states not in stages[i].states:
            raise UsageError(
                f"this bundle gives no {states} of the states after layer {stages[i].depth}: {NO_HEADS}"
            )
        return states if states in stages[i].states else "y"

    def hear(self, test: Test, states: str, said: Sequence[Candidates]) -> None:
        """What the head said of the live rows of those states."""
        if states == "y":
            self._heard.append(said)
        for name, signal in SIGNALS.items():
            if not signal.from_head or signal.states != states:
                continue
            if not signal.needs_history:
                test.readings[name] = signal.read_head([said])
            elif len(self._heard) == self._passed:
                test.readings[name] = signal.read_head(self._heard)
        if self._controller is not None:
            self._controller.learn(test.stack, test.step, test.i, test.readings)

    def leave(self, test: Test) -> bool:
        """Whether the stack is left here."""
        stack, i, threshold = test.stack, test.i, test.threshold
        depth = self._stacks[stack][i].depth
        name = self.policy.signal(stack)
        scores, distances = test.readings.get(name, ((), ())) if name is not None else ((), ())
        if math.isinf(threshold):
            leave = threshold < 0
        elif len(scores) < test.live:  # else no row would be one that stays
            raise VerificationError(
                f"{len(scores)} exit scores of {stack} after layer {depth} (step {test.step}) for "
                f"{test.live} rows; check the bundle with: mue-edge verify BUNDLE"
            )
        else:
            leave = all(should_exit(s, g, threshold) for s, g in zip(scores, distances))
        if self._controller is not None:
            if not leave and self._controller.must_leave(stack, i):
                threshold, leave = ALWAYS, True
            if leave or i + 1 == len(self._stacks[stack]):
                self._controller.left(stack, i)
        traced = test.readings if self._trace else {}
        if scores or leave or traced:
            self.decisions.append(
                ExitDecision(stack, depth, test.step, scores, distances, threshold, leave, traced)
            )
        return leave

    def _names(self, stack: str) -> set[str]:
        return {name for policy in self.walk if (name := policy.signal(stack)) is not None}
