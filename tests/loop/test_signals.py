"""What exit tests read: scores and gaps of every signal, and rules that read more than similarity."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from mue_edge.errors import UsageError
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.deadline import Deadline
from mue_edge.loop.driver import drive
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import HEAD_PORTS, Answer, Request
from mue_edge.loop.search import BeamSearch, SearchSettings
from mue_edge.loop.signals import CONFIDENCE, ENTROPY, MARGIN, SIGNALS, SIMILARITY
from mue_edge.rules import RULES
from mue_edge.rules.rule import NEVER, Parameters, Rule
from tests.loop.test_loop import Scripted, layout, run

SURE, UNSURE = [-0.01, -5.0], [-0.7, -0.8]


def test_a_logit_keeps_its_digits_on_both_sides() -> None:
    scores, gaps = SIGNALS[CONFIDENCE].read({"logit": [0.0, 40.0, -800.0, 9.0]}, 3)
    assert scores == (0.5, 1.0, 0.0) and gaps[:2] == (0.5, pytest.approx(math.exp(-40)))
    assert SIGNALS[CONFIDENCE].read({}, 3) == ((), ())


def test_margin_and_entropy_of_candidates() -> None:
    rows = [((5, 6), SURE, -5.0), ((5, 6), UNSURE, -5.0), ((5,), [0.0], -9.0)]
    scores, gaps = SIGNALS[MARGIN].read_head([rows])
    assert scores == pytest.approx((math.exp(-0.01) - math.exp(-5), math.exp(-0.7) - math.exp(-0.8), 1.0))
    assert gaps == pytest.approx(tuple(1 - s for s in scores))
    sure, unsure, certain = SIGNALS[ENTROPY].read_head([rows])[0]
    assert 0 < unsure < sure < certain == 1


class Heads(Scripted):
    """Sure of the first word after any layer; of the next ones after the second layer only."""

    def execute(self, request: Request) -> Answer:
        if request.read != HEAD_PORTS:
            return super().execute(request)
        self.requests.append(request)
        step = len(self.runs("embed")) - 1
        layers = int(self.runs("decoder")[-1].partition(".")[2]) + 1
        word = [2, 9] if step == 3 else [5 + step, 9]
        values = SURE if step == 0 or layers > 1 else UNSURE
        return Answer(candidates=[(word, values, -0.01 if step == 3 else -9.0)] * 8)


@pytest.mark.parametrize("rule", ["calm-softmax", "deebert"])
def test_a_head_that_passes_the_test_is_the_steps_own(rule: str) -> None:
    runtime = Heads()
    outcome = run(Policy(rule, {"decoder": StackExit(0.8)}, beta=1.0), runtime)
    assert [s.depth for s in outcome.steps] == [1, 2, 2, 2] and outcome.hypotheses[0].tokens == (5, 6, 7, 2)
    # One for the first step, two for every other; none after the layer where a step ends.
    assert len(runtime.runs("head")) == 7 and len(runtime.runs("decoder")) == 7
    assert all(r.then is None for r in runtime.requests if r.run.startswith("decoder"))
    kept = [s.buffer for r in runtime.requests if r.run == "head" for s in r.store]
    assert kept == ["exit_states"] * 7
    assert runtime.runs("fill") == ["fill.1"]  # of the first step, when the second goes deeper


def test_a_fixed_end_needs_no_test() -> None:
    runtime = Heads()
    outcome = run(Policy("calm-softmax", {"decoder": StackExit(0.8, depth=2)}, beta=1.0), runtime)
    assert [s.depth for s in outcome.steps] == [1, 2, 2, 2]
    plain = Heads()
    run(Policy("calm-softmax", {"decoder": StackExit(depth=2)}), plain)
    assert len(plain.runs("head")) == 4  # without a threshold nothing is tested


def test_under_a_deadline_the_policy_of_the_moment_asks_the_head() -> None:
    slow, fast = (
        Policy("calm-softmax", {"decoder": StackExit(0.8)}, beta=1.0),
        Policy("fixed", {"decoder": StackExit(depth=1)}),
    )
    plenty = Deadline(0.0, 100.0, faster=(fast, Policy("mue", {"decoder": StackExit(0.9)}, beta=1.0)))
    runtime = Heads()
    search = BeamSearch(SearchSettings(beam=1, max_length=16))
    outcome = drive(caption_loop(layout(), slow, search, deadline=plenty), runtime)
    assert [s.depth for s in outcome.steps] == [1, 2, 2, 2] and len(runtime.runs("head")) == 7
    assert outcome.deadline is not None and not outcome.deadline.hurried
    # Similarity is read too: what the faster policy would have done is how its depths are learnt.
    assert {r.read for r in runtime.requests if r.run.startswith("decoder")} == {("score", "gap")}


def test_a_bundle_without_heads_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"no confidence of decoder after layer 1.*train --heads"):
        run(Policy("calm-classifier", {"decoder": StackExit(0.8)}), Scripted())
    # Where nothing is tested, nothing is missing.
    assert run(Policy("calm-classifier", {"decoder": StackExit(depth=1)}), Scripted()).steps[0].depth == 1


def test_a_new_rule_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def last_words(policy: Parameters, stack: str, depth: int, step: int, max_length: int) -> float:
        theta = policy.theta(stack, depth)
        return NEVER if theta is None or step == 0 else theta

    monkeypatch.setitem(RULES, "patient-start", Rule(last_words, decoder=MARGIN))
    outcome = run(Policy("patient-start", {"decoder": StackExit(0.8)}), Heads())
    assert [s.depth for s in outcome.steps] == [3, 2, 2, 2]
    assert replace(Policy(), rule="patient-start").signal("decoder") == MARGIN
    assert Policy().signal("decoder") == SIMILARITY == Policy("calm-softmax").signal("image")
