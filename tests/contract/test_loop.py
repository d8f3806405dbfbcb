"""The loop over the cut, run by torch, against the model itself: tokens, exits, scores."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import Runtime, drive
from mue_edge.loop.policy import ExitPolicy
from mue_edge.loop.protocol import Answer, Outcome, Request
from mue_edge.loop.replay import run
from mue_edge.loop.search import BeamSearch
from mue_edge.models.ofa.decoding.generate import GeneratedHypothesis
from tests.contract.cuts import (
    FULL,
    LATE,
    UP_AND_DOWN,
    Case,
    Cyclic,
    exit_scores,
    generated,
    make_case,
    pictures,
    policies,
    threshold_policies,
)

TOLERANCE = 2e-5


def logged(case: Case, policy: ExitPolicy, runtime: Runtime) -> tuple[Outcome, list[Request]]:
    """A traced run and its requests."""
    requests: list[Request] = []
    loop = caption_loop(case.layout, policy, BeamSearch(case.settings), trace=True)
    return drive(loop, runtime, lambda request, answer: requests.append(request)), requests


def assert_equal(case: Case, outcome: Outcome, wanted: list[GeneratedHypothesis]) -> None:
    """Every hypothesis, every depth, and the scores at every boundary."""
    assert [h.tokens for h in outcome.hypotheses] == [h.tokens for h in wanted]
    for mine, theirs in zip(outcome.hypotheses, wanted):
        assert mine.positional_scores == pytest.approx(theirs.positional_scores, abs=TOLERANCE)
    names = {"joint": "encoder"}
    encoder_exits = {names.get(name, name): depth for name, depth in wanted[0].encoder_exits.items()}
    assert outcome.depths == encoder_exits
    assert tuple(step.depth for step in outcome.steps) == wanted[0].exits
    found = exit_scores(outcome)
    scores = {
        (names.get(name, name), depth, 0): score
        for name, values in wanted[0].encoder_scores.items()
        for depth, score in enumerate(values, 1)
    } | {
        ("decoder", depth, step): score
        for step, values in enumerate(wanted[0].exit_scores)
        for depth, score in enumerate(values, 1)
    }
    for key, score in found.items():
        assert score == pytest.approx(scores[key], abs=TOLERANCE), key
    assert {key for key in scores if key[1] in case.request.ends[key[0]]} - found.keys() <= {
        ("text", 3, 0)  # of a constant prompt's last layer nobody asks
    }


@pytest.mark.parametrize("name", ["never", "half", "most", "decayed", "fixed", "up-and-down", "late"])
def test_loop_equals_the_model(case: Case, name: str) -> None:
    policy = policies(case.name)[name]
    for picture in pictures():
        outcome, _ = logged(case, policy, case.reference(picture))
        assert_equal(case, outcome, generated(case, picture, policy))


def test_thresholds_part_the_steps(case: Case) -> None:
    """Within a caption; else the policies above would compare nothing but constant depths."""
    depths = [
        {step.depth for step in run(case.layout, case.settings, policy, case.reference(picture)).steps}
        for policy in threshold_policies(case.name)
        for picture in pictures()
    ]
    assert max(map(len, depths)) > 1


def test_lazy_kv_equals_eager_propagation(case: Case) -> None:
    """Rows that wait for a later step equal the model's, which fills all layers at the exit."""
    picture = pictures()[0]
    outcome, requests = logged(case, UP_AND_DOWN, case.reference(picture))
    filled = [row for r in requests if r.run.startswith("fill.") for row in r.gather]
    assert len(filled) > case.layout.fill_rows * 2
    assert_equal(case, outcome, generated(case, picture, UP_AND_DOWN))


def test_lazy_cross_kv_equals_eager(case: Case) -> None:
    """A layer's cross K/V is asked for when a step first reaches it, and gives what it would have at once."""
    picture = pictures()[0]
    outcome, requests = logged(case, LATE, case.reference(picture))
    runs = [r.run for r in requests]
    last = f"cross_kv.{len(case.layout.decoder.stages) - 1}"
    assert runs.count(last) == 1 and runs.index(last) > [i for i, r in enumerate(runs) if r == "head"][2]
    eager, _ = logged(case, LATE, EagerCross(case.reference(picture)))
    assert eager == outcome
    shallow, requests = logged(case, Cyclic(1, (1,)), case.reference(picture))
    assert len(shallow.steps) > 2
    assert not {last, f"fill.{len(case.layout.decoder.stages) - 1}"} & {r.run for r in requests}


def test_ancestry_masks_equal_reordered_caches() -> None:
    """Slots that never move, seen through masks, equal the model's caches, which follow the beams."""
    case = make_case("prompt")
    moved = 0
    for policy in (FULL, UP_AND_DOWN, threshold_policies("prompt")[0]):
        for picture in pictures():
            outcome, _ = logged(case, policy, case.reference(picture))
            moved += sum(s.parents != tuple(range(len(s.parents))) for s in outcome.steps if s.parents)
            assert_equal(case, outcome, generated(case, picture, policy))
    assert moved > 5


def test_running_ahead_changes_nothing(case: Case) -> None:
    """A driver that runs `then` before it has seen the score ends with the same decisions and scores."""
    kept = dropped = 0
    chosen: list[ExitPolicy] = [UP_AND_DOWN, *threshold_policies(case.name)]
    for policy in chosen:
        for picture in pictures():
            outcome, _ = logged(case, policy, case.reference(picture))
            runtime = Ahead(case.reference(picture))
            ahead, _ = logged(case, policy, runtime)
            kept, dropped = kept + runtime.kept, dropped + runtime.dropped
            assert ahead.depths == outcome.depths and ahead.steps == outcome.steps
            assert exit_scores(ahead) == pytest.approx(exit_scores(outcome), abs=1e-6)
            assert [h.tokens for h in ahead.hypotheses] == [h.tokens for h in outcome.hypotheses]
    assert kept and dropped


class EagerCross:
    """Runs every layer's cross K/V when the first is asked for, and never again."""

    def __init__(self, inner: Runtime) -> None:
        self.inner = inner

    def set_pixels(self, pixels: object) -> None:
        self.inner.set_pixels(pixels)

    def execute(self, request: Request) -> Answer:
        if not request.run.startswith("cross_kv."):
            return self.inner.execute(request)
        answer = Answer()
        for j in range(9 if request.run == "cross_kv.0" else 0):
            outputs = {port: f"cross_{port}.{j}" for port in ("k", "v")}
            with suppress(KeyError):
                answer = self.inner.execute(replace(request, run=f"cross_kv.{j}", outputs=outputs))
        return answer

    def close(self) -> None:
        self.inner.close()


class Ahead:
    """Runs `then` at once, as a driver with a queue does, and drops it if the loop went elsewhere."""

    def __init__(self, inner: Runtime) -> None:
        self.inner = inner
        self.ready: tuple[Request, Answer] | None = None
        self.kept = self.dropped = 0

    def set_pixels(self, pixels: object) -> None:
        self.inner.set_pixels(pixels)

    def execute(self, request: Request) -> Answer:
        ready, self.ready = self.ready, None
        if ready is not None and ready[0].run == request.run:
            assert replace(request, read=(), then=None) == replace(ready[0], read=())
            self.kept += 1
            answer = ready[1]
        else:
            self.dropped += ready is not None
            answer = self.inner.execute(request)
        if request.then is None:
            return answer
        self.ready = request.then, self.inner.execute(replace(request.then, read=("score", "gap")))
        return replace(answer, ran_ahead=True)

    def close(self) -> None:
        self.inner.close()
