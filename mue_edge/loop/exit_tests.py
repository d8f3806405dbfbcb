"""The exit tests of one caption: what is read, what the head is run on, whether a stack is exited.

The loop reports what a segment put out (`read`) and the head's candidates from its states (`add_candidates`);
the controller's policy, or its clock, decides (`should_exit`). Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mue_edge.errors import UsageError, VerificationError
from mue_edge.loop.deadline import PolicyController
from mue_edge.loop.policy import ALWAYS, ExitPolicy, should_exit
from mue_edge.loop.protocol import DECODER, ExitDecision, Layout, Stack
from mue_edge.loop.signals import SIGNALS, Candidates, Reading

Scalars = Mapping[str, Sequence[float]]
NO_HEADS = (
    "its model had no heads for it. Train them (mue-edge train --heads) and export again, or choose another policy"
)


def runs_head(policy: ExitPolicy, stack: str, threshold: float) -> bool:
    """Whether a policy's test with that threshold runs the head; one whose signal needs the history does so
    at every boundary that is not exited without a test."""
    name = policy.signal(stack)
    if name is None or not SIGNALS[name].from_head:
        return False
    return math.isfinite(threshold) or (SIGNALS[name].needs_history and threshold > 0)


@dataclass
class Test:
    """The test after segment i of a stack: its threshold, and what was read of the live rows by signal."""

    __test__ = False  # not a test, whatever pytest thinks

    stack: Stack
    i: int
    step: int
    live: int
    threshold: float
    readings: dict[str, Reading]


class ExitTests:
    """`trace`: every score is read, also where none can exit; `heads`: the head runs after every segment of
    the decoder."""

    def __init__(self, layout: Layout, controller: PolicyController, *, trace: bool, heads: bool) -> None:
        self._decoder, self._controller = layout.decoder, controller
        self._trace, self._heads = trace, heads
        self._signals = {stack.name: self._signals_of(stack) for stack in layout.stacks}
        # Whether a test may need the head before the step's last segment.
        self.may_run_head = heads or any(SIGNALS[name].from_head for name in self._signals[DECODER])
        # One policy decides, without a clock, and nobody else wants to know anything.
        self._plain = not trace and not self.may_run_head and type(controller) is PolicyController
        self.decisions: list[ExitDecision] = []
        self.begin()

    def begin(self, stem_scalars: Scalars | None = None) -> None:
        """A stack begins, whose stem put out these scalars for its boundaries, or a step of the decoder."""
        self._stem_scalars: Scalars = stem_scalars or {}
        self._candidates: list[Sequence[Candidates]] = []
        self._segments = 0

    def stem_ports(self, stack: Stack) -> dict[str, bool]:
        """What the stack's stem puts out for its tests, and whether anybody reads it."""
        available = {name for stage in stack.stages for name in stage.signals if SIGNALS[name].from_stem}
        tested = available if self._trace else available & self._signals[stack.name]
        return {port: name in tested for name in sorted(available) for port in SIGNALS[name].ports}

    def idle(self, stack: Stack, step: int, i: int) -> bool:
        """Whether the stack goes on after segment i whatever that puts out, and nothing of it is read."""
        return self._plain and i + 1 < len(stack.stages) and self._controller.threshold(stack, step, i) == math.inf

    def ports(self, stack: Stack, step: int, i: int) -> tuple[str, ...]:
        """Ports of the signals that are to be read after segment i."""
        stage = stack.stages[i]
        names: Iterable[str] = stage.signals if self._trace else self._controller.signals(stack, step, i)
        for name in names:
            if name not in stage.signals and not SIGNALS[name].from_head:
                raise UsageError(f"this bundle gives no {name} of {stack.name} after layer {stage.depth}: {NO_HEADS}")
        return tuple(port for name in names if not SIGNALS[name].from_stem for port in SIGNALS[name].ports)

    def exits_by_stem(self, stack: Stack, i: int, threshold: float) -> bool:
        """Whether the stack will be exited after segment i by what its stem put out."""
        name = self._controller.policy.signal(stack.name)
        if name is None or not SIGNALS[name].from_stem or math.isinf(threshold):
            return threshold < 0
        return _all_exit(SIGNALS[name].read_stem(self._stem_scalars, stack.stages[i].depth), threshold)

    def read(self, stack: Stack, step: int, i: int, live: int, scalars: Scalars) -> Test:
        """The test after segment i, which put out these scalars."""
        stage = stack.stages[i]
        readings: dict[str, Reading] = {}
        for name in stage.signals:
            signal = SIGNALS[name]
            outputs = self._stem_scalars if signal.from_stem else scalars
            if signal.ports and signal.ports[0] in outputs:
                readings[name] = (
                    signal.read_stem(outputs, stage.depth) if signal.from_stem else signal.read(outputs, live)
                )
        for name, reading in readings.items():
            if not all(map(math.isfinite, reading[0] + reading[1])):
                raise VerificationError(
                    f"the exit score of {stack.name} after layer {stage.depth} (step {step}, {name}) is not "
                    f"finite: {reading[0]}; check the bundle with: mue-edge verify BUNDLE"
                )
        self._segments += 1
        self._controller.learn(stack, step, i, readings)
        self._controller.update(stack, step, i)
        return Test(stack, i, step, live, self._controller.threshold(stack, step, i), readings)

    def head_inputs(self, test: Test) -> tuple[str, ...]:
        """States that the head must run on for the test."""
        stages = test.stack.stages
        if test.stack.name != DECODER or test.i + 1 == len(stages):
            return ()
        if self._heads:
            return stages[test.i].states
        if runs_head(self._controller.policy, DECODER, test.threshold):
            return (self.head_input(test.i),)
        # A policy that may take over needs the candidates from before it did.
        if len(self._controller.policies) == 1:
            return ()
        return ("y",) if any(SIGNALS[name].needs_history for name in self._signals[DECODER]) else ()

    def head_input(self, i: int) -> str:
        """The states that the head reads if the step is exited after decoder segment i."""
        stages, states = self._decoder.stages, self._controller.policy.head_states
        if i + 1 < len(stages) and states not in stages[i].states:
            raise UsageError(f"this bundle gives no {states} of the states after layer {stages[i].depth}: {NO_HEADS}")
        return states if states in stages[i].states else "y"

    def add_candidates(self, test: Test, states: str, candidates: Sequence[Candidates]) -> None:
        """The head's candidates of the live rows from those states."""
        if states == "y":
            self._candidates.append(candidates)
        for name, signal in SIGNALS.items():
            if not signal.from_head or signal.states != states:
                continue
            if not signal.needs_history:
                test.readings[name] = signal.read_head([candidates])
            elif len(self._candidates) == self._segments:
                test.readings[name] = signal.read_head(self._candidates)
        self._controller.learn(test.stack, test.step, test.i, test.readings)

    def should_exit(self, test: Test) -> bool:
        """Whether the stack is exited here; writes the decision down."""
        stack, i, threshold = test.stack, test.i, test.threshold
        depth = stack.stages[i].depth
        name = self._controller.policy.signal(stack.name)
        scores, distances = test.readings.get(name or "", ((), ()))
        if math.isfinite(threshold) and len(scores) < test.live:  # else no row would be one that stays
            raise VerificationError(
                f"{len(scores)} exit scores of {stack.name} after layer {depth} (step {test.step}) for "
                f"{test.live} rows; check the bundle with: mue-edge verify BUNDLE"
            )
        exits = threshold < 0 if math.isinf(threshold) else _all_exit((scores, distances), threshold)
        if not exits and self._controller.must_exit(stack, i):
            threshold, exits = ALWAYS, True
        if exits or i + 1 == len(stack.stages):
            self._controller.record_exit(stack, i)
        traced = test.readings if self._trace else {}
        if scores or exits or traced:
            self.decisions.append(
                ExitDecision(stack.name, depth, test.step, scores, distances, threshold, exits, traced)
            )
        return exits

    def _signals_of(self, stack: Stack) -> set[str]:
        """Signals that any of the policies tests there."""
        names = {policy.signal(stack.name) for policy in self._controller.policies}
        return {name for name in names if name is not None}


def _all_exit(reading: Reading, threshold: float) -> bool:
    return all(should_exit(*row, threshold) for row in zip(*reading))
