"""The host loop, sans-IO: it decides, a driver computes.

`caption_loop` is a generator of what `protocol.py` describes: it yields requests and is sent answers. Every
device and every port in another language follows the requests that this file makes, so its log is the
conformance test.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import cache

from mue_edge.cache import Cache
from mue_edge.deadline import Deadline, OutOfTime, Pacer
from mue_edge.errors import UsageError, VerificationError
from mue_edge.policy import ALWAYS, Decider, exits, signal_of
from mue_edge.protocol import (
    EXIT_STATES,
    HEAD_PORTS,
    Answer,
    Asked,
    Decision,
    Layout,
    Loop,
    Outcome,
    Position,
    Request,
    Stage,
    StepLog,
    Store,
)  # fmt: skip
from mue_edge.search import BeamSearch
from mue_edge.signals import SIGNALS, Reading


def caption_loop(
    layout: Layout, policy: Decider, search: BeamSearch, *, trace: bool = False, heads: bool = False,
    deadline: Deadline | None = None,
) -> Loop:  # fmt: skip
    """Encode one picture and decode it. `trace` reads every score, also where none can exit, and `heads` runs
    the head after every decoder segment; with a `deadline`, faster policies stand in for `policy` when the
    clock of the answers asks for it."""
    return (yield from _Run(layout, policy, search, trace, heads, deadline).run())


class _Run:
    def __init__(
        self, layout: Layout, policy: Decider, search: BeamSearch, trace: bool, heads: bool,
        deadline: Deadline | None,
    ) -> None:  # fmt: skip
        self.layout, self.policy, self.search, self.trace = layout, policy, search, trace
        self.heads = heads
        # What the head said after the present decoder segment, if a test ran it.
        self.said: Answer | None = None
        self.cache = Cache(len(layout.decoder), layout.rows)
        self.decisions: list[Decision] = []
        self.steps: list[StepLog] = []
        self.depths = dict.fromkeys((*layout.encoder, *(("text",) if layout.prompt_gaps else ())), 0)
        self.calls = 0
        self.cross: set[int] = set()
        self.pacer: Pacer | None = None
        if deadline is not None:
            self.pacer = Pacer(layout, policy, search.settings, deadline, self.cache, self.cross)

    def run(self) -> Loop:
        cut = False
        try:
            yield from self._caption()
        except OutOfTime:
            cut = True
            self.search.cut()
        pacing = self.pacer.end(len(self.steps), cut=cut) if self.pacer else None
        return Outcome(
            tuple(self.search.hypotheses()), self.depths, tuple(self.steps), tuple(self.decisions),
            self.calls, pacing,
        )  # fmt: skip

    def _caption(self) -> Generator[Request, Answer, None]:
        sources: dict[str, str] = {}
        for stack, stages in self.layout.encoder.items():
            sources[stack] = yield from self._encode(stack, stages)
        if self.layout.prompt_gaps:
            self.depths["text"] = self._prompt_depth()
            sources["text"] = f"constant:text_x.{self.depths['text']}"
        self.memory = {f"{stack}_x": buffer for stack, buffer in sources.items()}
        while True:
            step = yield from self._step()
            self.steps.append(step)
            if not step.parents:
                break

    def _ask(self, request: Request) -> Asked:
        if self.pacer is not None:
            self.pacer.check()
        self.calls += 1
        answer = yield request
        if self.pacer is not None:
            self.pacer.saw(request.run, answer.now)
        return answer

    def _encode(self, stack: str, stages: Sequence[Stage]) -> Generator[Request, Answer, str]:
        if self.pacer is not None:
            self.pacer.enter(stack)
        stem = "text_stem" if stack == "text" else "stem"
        source = {"ids": "source_ids", "live": "source_live"} if stack == "text" else {"pixels": "pixels"}
        yield from self._ask(Request(stem, source, {"x": f"{stack}.0"}))
        requests = [self._encoder_request(stack, stages, i) for i in range(len(stages))]
        for i, stage in enumerate(stages):
            last = i + 1 == len(stages)
            threshold = math.inf if last else self.policy.threshold(stack, stage.depth)
            reads = self._reads(stack, 0, i, threshold)
            answer = yield from self._ask(_with(requests[i], reads, None if last else requests[i + 1]))
            self.depths[stack] = stage.depth
            if (yield from self._leave(stack, i, 0, 1, threshold, answer)):
                break
        return f"{stack}.{(i + 1) % 2}"

    def _encoder_request(self, stack: str, stages: Sequence[Stage], i: int) -> Request:
        inputs = {"x": f"{stack}.{i % 2}"} | dict(stages[i].constants)
        outputs = {"y": f"{stack}.{(i + 1) % 2}"} | _signal_buffers("encoder", stages[i].signals)
        return Request(stages[i].name, inputs, outputs)

    def _prompt_depth(self) -> int:
        gaps = self.layout.prompt_gaps
        for depth, gap in enumerate(gaps[:-1], 1):
            threshold = (self.pacer or self).policy.threshold("text", depth)
            leave = exits(1 - gap, gap, threshold)
            self.decisions.append(Decision("text", depth, 0, (1 - gap,), (gap,), threshold, leave))
            if leave:
                return depth
        return len(gaps)

    def _step(self) -> Generator[Request, Answer, StepLog]:
        layout, cache, t = self.layout, self.cache, self.cache.step
        if self.pacer is not None:
            self.pacer.enter("decoder", t)
        live = len(self.search.tokens)
        last_ids = [row[-1] for row in self.search.tokens]
        ids = tuple(last_ids + last_ids[:1] * (layout.rows - live))
        yield from self._ask(Request("embed", {"ids": "last_ids"}, {"x": "decoder.0"}, ids=ids))
        then: Request | None = None
        for j, stage in enumerate(layout.decoder):
            yield from self._prepare(j)
            plain = then or self._decoder_request(j)
            last = j + 1 == len(layout.decoder)
            threshold = (
                math.inf if last else self.policy.threshold("decoder", stage.depth, t, self._max_length())
            )
            ahead = not last and j + 1 in self.cross and not cache.pending(j + 1)
            # A head in between would come between a request and the one that was run ahead.
            ahead = ahead and not self._may_ask_head()
            then = self._decoder_request(j + 1) if ahead else None
            answer = yield from self._ask(_with(plain, self._reads("decoder", t, j, threshold), then))
            cache.mark(j)
            if (yield from self._leave("decoder", j, t, live, threshold, answer)):
                if answer.ran_ahead and layout.decoder[j + 1].depth == stage.depth + 1:
                    # It wrote exactly the rows that propagation would. A segment of several layers
                    # did so for its first layer only: its rows stay pending and are overwritten.
                    cache.mark(j + 1)
                break
        answer = self.said or (yield from self._head(j, live))
        parents = self.search.advance(answer.candidates[:live])
        tokens = tuple(row[-1] for row in self.search.tokens) if parents is not None else ()
        if parents is not None:
            cache.advance(parents)
        return StepLog(stage.depth, tokens, tuple(parents or ()))

    def _head(self, j: int, live: int) -> Asked:
        """What the head says of the states after decoder segment j; they are kept, if layers skip them."""
        y, last = f"decoder.{(j + 1) % 2}", j + 1 == len(self.layout.decoder)
        keep = () if last else (Store(y, EXIT_STATES, self.cache.slots()),)
        answer = yield from self._ask(
            Request("head", {"y": y}, {port: port for port in HEAD_PORTS}, read=HEAD_PORTS, store=keep)
        )
        _check_candidates(answer.candidates, live, self.cache.step)
        return answer

    def _may_ask_head(self) -> bool:
        """Whether a test of the decoder may need the head."""
        walk = (self.policy,) if self.pacer is None else self.pacer.walk
        return self.heads or any(SIGNALS[signal_of(policy, "decoder")].of_head for policy in walk)

    def _max_length(self) -> int:
        return self.search.settings.max_length

    def _prepare(self, j: int) -> Generator[Request, Answer, None]:
        """What segment j lacks: its cross-attention K/V, and the rows of steps that left before it."""
        if j not in self.cross:
            self.cross.add(j)
            outputs = {"k": f"cross_k.{j}", "v": f"cross_v.{j}"}
            yield from self._ask(Request(f"cross_kv.{j}", self.memory, outputs))
        pending = self.cache.pending(j)
        for start in range(0, len(pending), self.layout.fill_rows):
            rows = tuple(pending[start : start + self.layout.fill_rows])
            store = (Store("kv_rows", f"slots.{j}", rows),)
            yield from self._ask(
                Request(
                    f"fill.{j}", {"x": EXIT_STATES}, {"kv_rows": f"fill_rows.{j}"}, gather=rows, store=store
                )
            )
        if pending:
            self.cache.mark_filled(j)

    def _decoder_request(self, j: int) -> Request:
        stage, cache = self.layout.decoder[j], self.cache
        inputs, outputs = _decoder_buffers(j, stage.signals)
        store = (Store("kv_rows", f"slots.{j}", cache.slots()),)
        position = Position(cache.step, tuple(cache.ancestry))
        return Request(stage.name, inputs, outputs, store=store, position=position)

    def _stages(self, stack: str) -> Sequence[Stage]:
        return self.layout.decoder if stack == "decoder" else self.layout.encoder[stack]

    def _reads(self, stack: str, step: int, i: int, threshold: float) -> tuple[str, ...]:
        """Ports of the signals that somebody asks for after segment i."""
        stage = self._stages(stack)[i]
        if self.trace:
            names: Iterable[str] = stage.signals
        else:
            own = () if math.isinf(threshold) else (signal_of(self.policy, stack),)
            names = self.pacer.reads(stack, step, i) | set(own) if self.pacer else own
        for name in names:
            if name not in stage.signals and not SIGNALS[name].of_head:
                raise UsageError(
                    f"this bundle gives no {name} of {stack} after layer {stage.depth}: its model had "
                    "no heads for it. Train them (mue-edge train --heads) and export again, or "
                    "choose another policy"
                )
        return tuple(port for name in names for port in SIGNALS[name].ports)

    def _leave(
        self, stack: str, i: int, step: int, live: int, threshold: float, answer: Answer
    ) -> Generator[Request, Answer, bool]:
        """Whether the stack is left after its segment i; `threshold` is what a deadline may change."""
        self.said, stages = None, self._stages(stack)
        depth = stages[i].depth
        readings = _readings(stages[i].signals, answer, live)
        for name, reading in readings.items():
            if not all(map(math.isfinite, reading[0] + reading[1])):
                raise VerificationError(
                    f"the exit score of {stack} after layer {depth} (step {step}, {name}) is not finite: "
                    f"{reading[0]}; check the bundle with: mue-edge verify BUNDLE"
                )
        if self.pacer is not None:
            self.pacer.learn(stack, step, i, readings)
            threshold = self.pacer.threshold(stack, step, i)
        signal = signal_of(self.policy if self.pacer is None else self.pacer.policy, stack)
        tested = SIGNALS[signal].of_head and not math.isinf(threshold)
        if tested or (self.heads and stack == "decoder" and i + 1 < len(stages)):
            self.said = yield from self._head(i, live)
            rows = self.said.candidates[:live]
            readings |= {name: s.read_head(rows) for name, s in SIGNALS.items() if s.of_head}
            if self.pacer is not None:
                self.pacer.learn(stack, step, i, readings)
        scores, gaps = readings.get(signal, ((), ()))
        if math.isinf(threshold):
            leave = threshold < 0
        elif len(scores) < live:  # else no row would be one that stays
            raise VerificationError(
                f"{len(scores)} exit scores of {stack} after layer {depth} (step {step}) for {live} rows; "
                "check the bundle with: mue-edge verify BUNDLE"
            )
        else:
            leave = all(exits(s, g, threshold) for s, g in zip(scores, gaps))
        if self.pacer is not None:
            if not leave and self.pacer.must_leave(stack, i):
                threshold, leave = ALWAYS, True
            if leave or i + 1 == len(stages):
                self.pacer.left(stack, i)
        if scores or leave:
            traced = readings if self.trace else {}
            self.decisions.append(Decision(stack, depth, step, scores, gaps, threshold, leave, traced))
        return leave


def _readings(signals: Sequence[str], answer: Answer, live: int) -> dict[str, Reading]:
    """Of the signals that were read."""
    found = {}
    for name in signals:
        if SIGNALS[name].ports[0] in answer.scalars:
            found[name] = SIGNALS[name].read(answer.scalars, live)
    return found


def _check_candidates(
    rows: Sequence[tuple[Sequence[int], Sequence[float], float]], live: int, step: int
) -> None:
    """NaN sorts anywhere and would become a caption; −inf is how a token is ruled out."""
    if len(rows) < live or not all(v < math.inf for _, values, eos in rows[:live] for v in (*values, eos)):
        raise VerificationError(
            f"the head's log-probabilities of step {step} are no numbers, or lack rows "
            f"({len(rows)} of {live}); check the bundle with: mue-edge verify BUNDLE"
        )


@cache
def _signal_buffers(kind: str, signals: tuple[str, ...]) -> dict[str, str]:
    return {port: f"{kind}_{port}" for name in signals for port in SIGNALS[name].ports}


@cache
def _decoder_buffers(j: int, signals: tuple[str, ...]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Buffers of decoder segment j's inputs and outputs; kept, since every step asks for them."""
    inputs = {
        "x": f"decoder.{j % 2}",
        "slots": f"slots.{j}",
        "slot_bias": f"slot_bias.{j}",
        "own_bias": f"own_bias.{j}",
        "cross_k": f"cross_k.{j}",
        "cross_v": f"cross_v.{j}",
        "cross_bias": "cross_bias",
    }
    outputs = {
        "y": f"decoder.{(j + 1) % 2}",
        **_signal_buffers("decoder", signals),
        "kv_rows": f"kv_rows.{j}",
    }
    return inputs, outputs


def _with(request: Request, read: tuple[str, ...], then: Request | None) -> Request:
    return Request(
        request.run, request.inputs, request.outputs, read, request.ids, request.gather,
        request.store, request.position, then,
    )  # fmt: skip
