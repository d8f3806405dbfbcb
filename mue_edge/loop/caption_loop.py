"""The host loop, sans-IO: it decides, a driver computes.

`caption_loop` is a generator of what `protocol.py` describes: it yields requests and is sent answers. Every
device and every port in another language follows the requests that this file makes, so its log is the
conformance test.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import cache, lru_cache

from mue_edge.errors import VerificationError
from mue_edge.loop.cache import Cache
from mue_edge.loop.deadline import Deadline, DeadlineController, OutOfTime, PolicyController
from mue_edge.loop.exit_tests import ExitTests
from mue_edge.loop.policy import ExitPolicy, should_exit
from mue_edge.loop.protocol import (
    CONSTANT,
    DECODER,
    ENCODER_SIGNALS,
    EXIT_STATES,
    HEAD_PORTS,
    LIVE_TOKENS,
    PICTURE,
    TEXT,
    Answer,
    ExitDecision,
    Layout,
    Loop,
    Outcome,
    Position,
    Request,
    SegmentCall,
    Stack,
    StepLog,
    Store,
)
from mue_edge.loop.search import BeamSearch
from mue_edge.loop.signals import SIGNALS, Candidates

# What a stem reads, by its ports: the picture, or the text that comes with it.
INPUTS = {PICTURE: {"pixels": "pixels"}, TEXT: {"ids": "source_ids", "live": "source_live"}}
PATCHES = "patches"


def caption_loop(
    layout: Layout,
    policy: ExitPolicy,
    search: BeamSearch,
    *,
    trace: bool = False,
    heads: bool = False,
    deadline: Deadline | None = None,
) -> Loop:
    """Encode one picture and decode it. `trace` reads every score, also where none can exit, and `heads` runs
    the head after every decoder segment; with a `deadline`, faster policies stand in for `policy` when the
    clock of the answers asks for it."""
    return (yield from Run(layout, policy, search, trace, heads, deadline).run())


class Run:
    """One caption of `caption_loop`."""

    def __init__(
        self,
        layout: Layout,
        policy: ExitPolicy,
        search: BeamSearch,
        trace: bool = False,
        heads: bool = False,
        deadline: Deadline | None = None,
    ) -> None:
        self.layout, self.search = layout, search
        # The head's answers after the present decoder segment, by the states that it read, if a test ran it.
        self.head_answers: dict[str, Answer] = {}
        self.cache = Cache(len(layout.decoder.stages), layout.rows)
        self.steps: list[StepLog] = []
        self.depths = {stack.name: 0 for stack in layout.encoders}
        self.calls = 0
        self.cross: set[int] = set()
        max_length = search.settings.max_length
        self.controller = PolicyController((policy,), max_length)
        if deadline is not None:
            self.controller = DeadlineController(layout, policy, max_length, deadline, self.cache, self.cross)
        self.tests = ExitTests(layout, self.controller, trace=trace, heads=heads)
        # Decoder segments that this or a later step may run.
        self.may_run = {j for p in self.controller.policies for j in p.stages(DECODER, layout.decoder.ends)}

    def run(self) -> Loop:
        cut = False
        try:
            yield from self._caption()
        except OutOfTime:
            cut = True
            self.search.cut()
        deadline = self.controller.finish(len(self.steps), cut=cut)
        hypotheses, decisions = tuple(self.search.hypotheses()), tuple(self.tests.decisions)
        return Outcome(hypotheses, self.depths, tuple(self.steps), decisions, self.calls, deadline)

    def _caption(self) -> Generator[Request, Answer, None]:
        self.memory: dict[str, str] = {}
        for stack in self.layout.encoders:
            if stack.source == CONSTANT:
                depth = self.depths[stack.name] = self._constant_depth(stack)
                self.memory[f"{stack.name}_x"] = f"constant:{stack.name}_x.{depth}"
            else:
                self.memory[f"{stack.name}_x"] = yield from self._encode(stack)
        yield from self._decode()

    def _decode(self) -> Generator[Request, Answer, None]:
        while True:
            step = yield from self._step()
            self.steps.append(step)
            if not step.parents:
                break

    def _send(self, request: Request) -> SegmentCall:
        self.controller.before_segment()
        self.calls += 1
        answer = yield request
        self.controller.after_segment(request.run, answer.now)
        return answer

    def _encode(self, stack: Stack) -> Generator[Request, Answer, str]:
        self.controller.begin(stack)
        first, stem_ports = f"{stack.name}.0", self.tests.stem_ports(stack)
        outputs = {"x": PATCHES if stack.joins else first} | {p: f"{stack.name}_{p}" for p in stem_ports}
        read = tuple(port for port, tested in stem_ports.items() if tested)
        answer = yield from self._send(Request(stack.stem, INPUTS[stack.source], outputs, read=read))
        if stack.joins:
            inputs = {"patches": PATCHES, **INPUTS[TEXT]}
            yield from self._send(Request(stack.joins, inputs, {"x": first, "all_live": LIVE_TOKENS}))
        self.tests.begin(answer.scalars)
        i, number = self.controller.next_segment(stack, -1), 0
        while i is not None:
            if self.tests.idle(stack, 0, i):
                yield from self._send(self._encoder_request(stack, i, number))
                number, self.depths[stack.name] = number + 1, self.depths[stack.name] + stack.layers(i)
                i = self.controller.next_segment(stack, i)
                continue
            ports = self.tests.ports(stack, 0, i)
            exits = self.tests.exits_by_stem(stack, i, self.controller.threshold(stack, 0, i))
            after = None if exits else self.controller.next_segment(stack, i)
            then = None if after is None else self._encoder_request(stack, after, number + 1)
            answer = yield from self._send(self._encoder_request(stack, i, number, ports, then))
            number, self.depths[stack.name] = number + 1, self.depths[stack.name] + stack.layers(i)
            test = self.tests.read(stack, 0, i, 1, answer.scalars)
            i = None if self.tests.should_exit(test) else self.controller.next_segment(stack, i)
        return f"{stack.name}.{number % 2}"

    def _encoder_request(
        self, stack: Stack, i: int, number: int, read: tuple[str, ...] = (), then: Request | None = None
    ) -> Request:
        """Of segment i, which is the one that runs as `number` of its stack, counted from 0."""
        stage = stack.stages[i]
        inputs = {"x": f"{stack.name}.{number % 2}"} | dict(stage.constants)
        outputs = {"y": f"{stack.name}.{(number + 1) % 2}"} | _signal_buffers(ENCODER_SIGNALS, stage.signals)
        return Request(stage.name, inputs, outputs, read, then=then)

    def _constant_depth(self, stack: Stack) -> int:
        """Where a constant text is exited: its distances are known, so no segment runs."""
        for depth, distance in enumerate(stack.distances[:-1], 1):
            threshold = self.controller.policy.threshold(stack.name, depth)
            exits = should_exit(1 - distance, distance, threshold)
            self.tests.decisions.append(
                ExitDecision(stack.name, depth, 0, (1 - distance,), (distance,), threshold, exits)
            )
            if exits:
                return depth
        return stack.depth

    def _step(self) -> Generator[Request, Answer, StepLog]:
        decoder, cache, t = self.layout.decoder, self.cache, self.cache.step
        self.controller.begin(decoder, t)
        self.tests.begin()
        self.position = Position(t, tuple(cache.ancestry))
        live = len(self.search.tokens)
        last_ids = [row[-1] for row in self.search.tokens]
        ids = self.embed_ids(last_ids, [t] * live, self.layout.rows)
        yield from self._send(Request("embed", {"ids": "last_ids"}, {"x": f"{DECODER}.0"}, ids=ids))
        ran: list[int] = []
        j = self.controller.next_segment(decoder, -1)
        while j is not None:
            if j not in self.cross or cache.pending(j):
                yield from self._prepare(j)
            if self.tests.idle(decoder, t, j):
                yield from self._send(self._decoder_request(j, len(ran)))
                cache.mark(j)
                ran.append(j)
                j = self.controller.next_segment(decoder, j)
                continue
            after = self.controller.next_segment(decoder, j)
            # A head in between would come between a request and the one that was run ahead.
            ahead = after in self.cross and not cache.pending(after) and not self.tests.may_run_head
            then = self._decoder_request(after, len(ran) + 1) if ahead and after is not None else None
            ports = self.tests.ports(decoder, t, j)
            answer = yield from self._send(self._decoder_request(j, len(ran), ports, then))
            ran_ahead = answer.ran_ahead
            cache.mark(j)
            ran.append(j)
            test = self.tests.read(decoder, t, j, live, answer.scalars)
            self.head_answers.clear()
            for states in self.tests.head_inputs(test):
                answer = self.head_answers[states] = yield from self._head(ran, states, live)
                self.tests.add_candidates(test, states, answer.candidates[:live])
            exits, j = self.tests.should_exit(test), self.controller.next_segment(decoder, j)
            if exits:
                if ran_ahead and after is not None and decoder.layers(after) == 1:
                    # It wrote exactly the rows that propagation would. A segment of several layers
                    # did so for its first layer only: its rows stay pending and are overwritten.
                    cache.mark(after)
                break
        states = self.tests.head_input(ran[-1])
        answer = self.head_answers.get(states) or (yield from self._head(ran, states, live))
        parents = self.search.advance(answer.candidates[:live])
        tokens = tuple(row[-1] for row in self.search.tokens) if parents is not None else ()
        if parents is not None:
            cache.advance(parents)
        depth = sum(map(decoder.layers, ran))
        return StepLog(depth, tokens, tuple(parents or ()))

    def embed_ids(self, ids: Sequence[int], steps: Sequence[int], rows: int) -> tuple[int, ...]:
        """Inputs of `embed` for words of these steps; rows without a word repeat the first."""
        ports = [[*ids], [*steps]] if self.layout.embeds_steps else [[*ids]]
        return tuple(value for port in ports for value in port + port[:1] * (rows - len(port)))

    def _head(self, ran: Sequence[int], states: str, live: int) -> SegmentCall:
        """The head's answer from the states after the decoder segments `ran`, or from what a segment makes of
        them; they are kept, if segments that they skip may run later."""
        y = source = f"{DECODER}.{len(ran) % 2}"
        if states != "y":
            source = f"{DECODER}_{states}"
            yield from self._send(Request(f"{states}.{ran[-1]}", {"y": y}, {states: source}))
        keep = (Store(y, EXIT_STATES, self.cache.slots()),) if self.may_run.difference(ran) else ()
        answer = yield from self._send(
            Request("head", {"y": source}, {port: port for port in HEAD_PORTS}, read=HEAD_PORTS, store=keep)
        )
        check_candidates(answer.candidates, live, self.cache.step)
        return answer

    def _prepare(self, j: int) -> Generator[Request, Answer, None]:
        """Run what segment j lacks: its cross-attention K/V, and the rows of steps that exited before it."""
        yield from self._cross(j)
        pending = self.cache.pending(j)
        for start in range(0, len(pending), self.layout.fill_rows):
            rows = tuple(pending[start : start + self.layout.fill_rows])
            store = (Store("kv_rows", f"slots.{j}", rows),)
            outputs = {"kv_rows": f"fill_rows.{j}"}
            yield from self._send(Request(f"fill.{j}", {"x": EXIT_STATES}, outputs, gather=rows, store=store))

    def _cross(self, j: int) -> Generator[Request, Answer, None]:
        if j not in self.cross:
            self.cross.add(j)
            outputs = {"k": f"cross_k.{j}", "v": f"cross_v.{j}"}
            yield from self._send(Request(f"cross_kv.{j}", self.memory, outputs))

    def _decoder_request(self, j: int, number: int, read: tuple[str, ...] = (), then: Request | None = None) -> Request:
        """Of segment j, which is the one that runs as `number` of the step, counted from 0."""
        stage = self.layout.decoder.stages[j]
        request = _step_request(stage.name, j, number, stage.signals, self.cache.slots(), self.position, read)
        return request if then is None else replace(request, then=then)


def check_candidates(rows: Sequence[Candidates], live: int, step: int) -> None:
    """NaN sorts anywhere and would become a caption; −inf is how a token is ruled out."""
    if len(rows) < live or not all(v < math.inf for _, values, eos in rows[:live] for v in (*values, eos)):
        raise VerificationError(
            f"the head's log-probabilities of step {step} are no numbers, or lack rows "
            f"({len(rows)} of {live}); check the bundle with: mue-edge verify BUNDLE"
        )


@cache
def _signal_buffers(kind: str, signals: tuple[str, ...]) -> dict[str, str]:
    ports = (port for name in signals if not SIGNALS[name].from_stem for port in SIGNALS[name].ports)
    return {port: f"{kind}_{port}" for port in ports}


@lru_cache(maxsize=1 << 12)
def _step_request(
    run: str,
    j: int,
    number: int,
    signals: tuple[str, ...],
    slots: tuple[int, ...],
    position: Position,
    read: tuple[str, ...],
) -> Request:
    """Of decoder segment j; kept, since every caption makes the same ones."""
    inputs = {
        "x": f"{DECODER}.{number % 2}",
        "slots": f"slots.{j}",
        "slot_bias": f"slot_bias.{j}",
        "own_bias": f"own_bias.{j}",
        "cross_k": f"cross_k.{j}",
        "cross_v": f"cross_v.{j}",
        "cross_bias": "cross_bias",
    }
    outputs = {"y": f"{DECODER}.{(number + 1) % 2}"} | _signal_buffers(DECODER, signals)
    outputs |= {"kv_rows": f"kv_rows.{j}"}
    return Request(run, inputs, outputs, read, store=(Store("kv_rows", inputs["slots"], slots),), position=position)
