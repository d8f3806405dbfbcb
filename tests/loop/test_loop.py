"""The loop alone, driven by a made-up runtime: which requests it makes and what it decides."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from mue_edge.errors import VerificationError
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import drive
from mue_edge.loop.policy import ForcedExits, Policy, StackExit
from mue_edge.loop.protocol import HEAD_PORTS, Answer, Layout, Outcome, Request, Stage
from mue_edge.loop.search import BeamSearch, SearchSettings
from tests import layouts

LAYERS = 3
Scores = Callable[[str], float]


def layout(rows: int = 1) -> Layout:
    image = tuple(Stage(f"image.{i}", i + 1, {"pos_q": "constant:pos_q"}) for i in range(LAYERS))
    decoder = tuple(Stage(f"decoder.{i}", i + 1) for i in range(LAYERS))
    return layouts.layout(image, decoder, rows, distances=(0.5, 0.1, 0.01))


class Scripted:
    """Answers every score with 0.5 unless told otherwise, and always proposes token 5, then eos."""

    def __init__(self, length: int = 3, ahead: bool = False, score: Scores = lambda run: 0.5) -> None:
        self.requests: list[Request] = []
        self.length, self.ahead, self.score = length, ahead, score
        self.heads = 0

    def set_pixels(self, pixels: object) -> None: ...

    def close(self) -> None: ...

    def execute(self, request: Request) -> Answer:
        self.requests.append(request)
        if request.read == HEAD_PORTS:
            self.heads += 1
            done = self.heads > self.length
            ids = [2, 4 + self.heads] if done else [4 + self.heads, 2]
            return Answer(candidates=[(ids, [-0.1, -3.0], -0.1 if done else -3.0)] * 8)
        value = self.score(request.run)
        scalars = {"score": [value] * 8, "gap": [1 - value] * 8} if request.read else {}
        return Answer(scalars, ran_ahead=self.ahead and request.then is not None)

    def runs(self, kind: str) -> list[str]:
        return [r.run for r in self.requests if r.run.startswith(kind)]


def run(policy: Policy | ForcedExits, runtime: Scripted, rows: int = 1, trace: bool = False) -> Outcome:
    search = BeamSearch(SearchSettings(beam=rows, max_length=16))
    return drive(caption_loop(layout(rows), policy, search, trace=trace), runtime)


def test_full_depth_reads_no_score_and_runs_everything_once() -> None:
    runtime = Scripted()
    outcome = run(Policy("never"), runtime)
    assert outcome.hypotheses[0].tokens == (5, 6, 7, 2)
    assert [s.depth for s in outcome.steps] == [3, 3, 3, 3]
    assert all(r.read in ((), HEAD_PORTS) for r in runtime.requests)
    assert runtime.runs("cross_kv") == ["cross_kv.0", "cross_kv.1", "cross_kv.2"]
    assert runtime.runs("fill") == []
    assert outcome.calls == len(runtime.requests) == layout().calls(4)
    assert outcome.depths == {"image": 3, "text": 3}


def test_layers_that_are_never_reached_never_pay() -> None:
    runtime = Scripted()
    outcome = run(ForcedExits({"image": 1, "text": 2}, (1, 1, 1, 1)), runtime)
    assert runtime.runs("image") == ["image.0"]
    assert runtime.runs("cross_kv") == ["cross_kv.0"] and runtime.runs("fill") == []
    cross = next(r for r in runtime.requests if r.run == "cross_kv.0")
    assert cross.inputs == {"image_x": "image.1", "text_x": "constant:text_x.2"}
    assert outcome.depths == {"image": 1, "text": 2}


def test_pending_rows_are_filled_when_first_needed_and_only_then() -> None:
    runtime = Scripted(length=6)
    run(ForcedExits({"image": 3, "text": 3}, (1, 1, 1, 1, 1, 3, 3)), runtime)
    fills = [(r.run, r.gather) for r in runtime.requests if r.run.startswith("fill")]
    assert fills == [("fill.1", (0, 1, 2, 3)), ("fill.1", (4,)), ("fill.2", (0, 1, 2, 3)), ("fill.2", (4,))]
    kept = [r.store[0].rows for r in runtime.requests if r.run == "head" and r.store]
    assert kept == [(0,), (1,), (2,), (3,), (4,)]


def test_a_layer_that_ran_ahead_of_an_exit_counts_as_done() -> None:
    depths = (3, 1, 1, 3)
    plain, ahead = Scripted(), Scripted(ahead=True)
    run(ForcedExits({"image": 3, "text": 3}, depths), plain)
    run(ForcedExits({"image": 3, "text": 3}, depths), ahead)
    assert ("fill.1", (1, 2)) in [(r.run, r.gather) for r in plain.requests]
    assert ahead.runs("fill") == ["fill.2"]


def test_run_ahead_is_offered_only_where_it_is_free() -> None:
    runtime = Scripted()
    run(ForcedExits({"image": 3, "text": 3}, (1, 1, 3, 3)), runtime, trace=True)
    offers = [(r.run, r.then.run if r.then else None) for r in runtime.requests if r.run.startswith("decoder")]
    assert offers[:2] == [("decoder.0", None), ("decoder.0", None)]  # no cross K/V of the next one yet
    assert offers[2:5] == [("decoder.0", None), ("decoder.1", None), ("decoder.2", None)]
    assert offers[5:] == [("decoder.0", "decoder.1"), ("decoder.1", "decoder.2"), ("decoder.2", None)]


def test_a_request_that_nobody_waits_for_offers_nothing_to_run_ahead() -> None:
    runtime = Scripted()
    run(Policy("never"), runtime)
    assert {r.read for r in runtime.requests} == {(), HEAD_PORTS}
    assert all(r.then is None for r in runtime.requests)


def test_similarity_exits_by_modality() -> None:
    scores = {"image.0": 0.5, "image.1": 0.95, "decoder.0": 0.2, "decoder.1": 0.99}
    runtime = Scripted(score=lambda name: scores.get(name, 0.0))
    policy = Policy("mue", {"image": StackExit(0.9), "text": StackExit(0.8), "decoder": StackExit(0.9)}, beta=1.0)
    outcome = run(policy, runtime)
    assert outcome.depths == {"image": 2, "text": 2}
    assert {s.depth for s in outcome.steps} == {2}
    tests = [(d.stack, d.depth, d.exit) for d in outcome.decisions if d.stack == "image"]
    assert tests == [("image", 1, False), ("image", 2, True)]


def test_a_step_exits_when_every_live_row_would() -> None:
    class Split(Scripted):
        def execute(self, request: Request) -> Answer:
            answer = super().execute(request)
            if not answer.scalars:
                return answer
            return Answer({"score": [0.99, 0.1, 0.99], "gap": [0.01, 0.9, 0.01]})

    outcome = run(Policy("mue", {"decoder": StackExit(0.9)}, beta=1.0), Split(), rows=3)
    # Step 0 has three equal live rows, later steps what the search kept.
    assert outcome.steps[0].depth == LAYERS


def test_trace_reads_every_score() -> None:
    runtime = Scripted()
    outcome = run(Policy("never"), runtime, trace=True)
    assert len([d for d in outcome.decisions if d.stack == "image"]) == LAYERS
    assert len([d for d in outcome.decisions if d.stack == "decoder"]) == LAYERS * 4


class Broken(Scripted):
    """Changes some answers: of segments that start with `kind`, the named scalars; of the head, the rows."""

    def __init__(self, kind: str, **scalars: list[float]) -> None:
        super().__init__()
        self.kind, self.scalars = kind, scalars
        self.rows: list[tuple[list[int], list[float], float]] | None = None

    def execute(self, request: Request) -> Answer:
        answer = super().execute(request)
        if self.rows is not None and answer.candidates:
            return Answer(candidates=self.rows)
        if answer.scalars and request.run.startswith(self.kind):
            return Answer({**answer.scalars, **self.scalars})
        return answer


@pytest.mark.parametrize("port", ["score", "gap"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("segment", "says"), [("decoder.1", "decoder after layer 2"), ("image.0", "image")])
def test_a_score_that_is_not_finite_is_an_error(port: str, bad: float, segment: str, says: str) -> None:
    """Also where no test could exit, if it is read."""
    for policy, trace in (
        (Policy("mue", {"image": StackExit(0.9), "decoder": StackExit(0.9)}), False),
        (Policy("never"), True),
    ):
        with pytest.raises(VerificationError, match=f"exit score of {says}"):
            run(policy, Broken(segment, **{port: [bad]}), trace=trace)


@pytest.mark.parametrize("port", ["score", "gap"])
def test_scores_that_are_missing_are_no_exit(port: str) -> None:
    with pytest.raises(VerificationError, match="for 1 rows"):
        run(Policy("mue", {"image": StackExit(0.9)}), Broken("image", **{port: []}))
    with pytest.raises(VerificationError, match="for 3 rows"):
        run(Policy("mue", {"decoder": StackExit(0.9)}), Broken("decoder", **{port: [0.1, 0.1]}), rows=3)


@pytest.mark.parametrize(
    "rows",
    [
        [([5, 2], [math.nan, -3.0], -3.0)], [([5, 2], [-0.1, math.nan], math.nan)],
        [([5, 2], [math.inf, -3.0], -3.0)], [([5, 2], [-0.1, -3.0], math.nan)], [],
    ],
)  # fmt: skip
def test_log_probabilities_that_are_none_are_an_error(rows: list[tuple[list[int], list[float], float]]) -> None:
    runtime = Broken("head")
    runtime.rows = rows
    with pytest.raises(VerificationError, match="log-probabilities of step 0"):
        run(Policy("never"), runtime)
