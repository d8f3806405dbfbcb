"""Exit rules one by one, in a loop whose answers are made up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from mue_edge.errors import UsageError
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.deadline import Deadline
from mue_edge.loop.driver import drive
from mue_edge.loop.policy import NEVER, ForcedExits, Policy, StackExit
from mue_edge.loop.protocol import HEAD_PORTS, Answer, Layout, Outcome, Request, Stage
from mue_edge.loop.search import BeamSearch, SearchSettings
from mue_edge.loop.signals import AGREEMENT, DEPTH_GATE, IMITATION, MARGIN, SIGNALS, SIMILARITY, patience
from tests.layouts import changed
from tests.loop.test_loop import Scripted, layout, run


def test_calm_saturation_decays_by_its_own_formula() -> None:
    policy = Policy("calm-saturation", {"image": StackExit(0.1), "decoder": StackExit(0.8)}, beta=0.5, tau=2.0)
    for step in (0, 5, 16):
        wanted = 0.9 * 0.8 + 0.1 * math.exp(-2 * step / 17)
        assert policy.threshold("decoder", 1, step, 16) == pytest.approx(wanted)
    assert policy.threshold("image", 1) == NEVER and policy.signal("image") is None
    assert Policy("calm-saturation", {"decoder": StackExit(-9.0)}).threshold("decoder", 1) == 0  # clipped
    assert Policy("calm-saturation", {"decoder": StackExit(0.99)}, tau=0.0).threshold("decoder", 1) < 1
    outcome = run(Policy("calm-saturation", {"decoder": StackExit(0.4), "image": StackExit(0.1)}), Scripted())
    assert outcome.depths["image"] == 3 and [s.depth for s in outcome.steps] == [1, 1, 1, 1]


def test_agreement_counts_the_stages_without_a_break() -> None:
    def heard(*words: int) -> list[list[tuple[tuple[int], tuple[float], float]]]:
        return [[((word,), (-0.1,), -9.0)] for word in words]

    signal = SIGNALS[AGREEMENT]
    scores = [signal.read_head(heard(*words))[0][0] for words in ((5,), (5, 5), (7, 5, 5, 5), (5, 5, 7))]
    assert scores == pytest.approx([0, 1 / 2, 2 / 3, 0])
    assert signal.read_head(heard(7, 5, 5))[1] == (0.5,)
    assert [score > patience(1) for score in scores[:3]] == [False, True, True]
    assert [score > patience(2) for score in scores[:3]] == [False, False, True]


class Spelling(Scripted):
    """The head's word after each layer of each step; then eos."""

    def __init__(self, words: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.words = words

    def execute(self, request: Request) -> Answer:
        if request.read != HEAD_PORTS:
            return super().execute(request)
        self.requests.append(request)
        step = len(self.runs("embed")) - 1
        layer = int(self.runs("decoder")[-1].partition(".")[2])
        word = self.words[step][layer] if step < len(self.words) else 2
        return Answer(candidates=[([word, 99], [-0.1, -3.0], -0.1 if word == 2 else -9.0)] * 8)


def test_pabee_waits_until_the_word_has_stayed() -> None:
    words = [(5, 5, 6), (6, 7, 7), (8, 9, 10)]
    runtime = Spelling(words)
    outcome = run(Policy("pabee", {"decoder": StackExit(patience(1))}), runtime)
    # Leaves after two layers that agree; eos agrees at once.
    assert [s.depth for s in outcome.steps] == [2, 3, 3, 2]
    assert outcome.hypotheses[0].tokens == (5, 7, 10, 2)
    # The head runs after every layer, also after the first, where nothing can agree.
    assert len(runtime.runs("head")) == len(runtime.runs("decoder"))
    longer = run(Policy("pabee", {"decoder": StackExit(patience(2))}), Spelling(words))
    assert [s.depth for s in longer.steps] == [3] * 4
    late = Policy("pabee", {"decoder": StackExit(thetas=(None, patience(1))), "image": StackExit(depth=1)})
    runtime = Spelling(words)
    assert [s.depth for s in run(late, runtime).steps] == [2, 3, 3, 2]
    assert len(runtime.runs("head")) == len(runtime.runs("decoder"))  # it had to hear the first layer too
    assert runtime.runs("image") == ["image.0"]
    assert [s.depth for s in run(Policy("pabee", {"decoder": StackExit(0.3, depth=1)}), Spelling(words)).steps] == [
        1
    ] * 4


def test_a_pabee_that_takes_over_has_heard_the_first_layers() -> None:
    slow, fast = (
        Policy("mue", {"decoder": StackExit(0.9)}, beta=1.0),
        Policy("pabee", {"decoder": StackExit(patience(1))}),
    )
    runtime = Spelling([(5, 5, 5)])
    loop = caption_loop(layout(), slow, BeamSearch(SearchSettings()), deadline=Deadline(0.0, 100.0, faster=(fast,)))
    outcome = drive(loop, runtime)
    assert [s.depth for s in outcome.steps] == [3, 3]
    assert len(runtime.runs("head")) == len(runtime.runs("decoder"))


@pytest.mark.parametrize(
    ("ends", "layers", "run"),
    [
        ((1, 2, 3, 4, 5, 6), 3, (1, 3, 5)), ((1, 2, 3, 4, 5, 6), 4, (1, 2, 4, 5)), ((1, 2, 3), 1, (2,)),
        ((1, 3, 6), 3, (1, 2)), ((2, 4), 1, (1,)), ((1, 2, 3), 3, (0, 1, 2)), ((1, 2, 3), 9, (0, 1, 2)),
    ],
)  # fmt: skip
def test_uniform_skip_spreads_what_stays(ends: Sequence[int], layers: int, run: tuple[int, ...]) -> None:
    policy = Policy("uniform-skip", {"decoder": StackExit(depth=layers)})
    assert policy.stages("decoder", ends) == run and policy.stages("image", ends) == tuple(range(len(ends)))
    assert policy.threshold("decoder", 1) == NEVER
    assert ForcedExits({}, (1,), policy).stages("decoder", ends) == run


def test_layers_that_are_left_out_cost_nothing() -> None:
    runtime = Scripted()
    outcome = run(Policy("uniform-skip", {"image": StackExit(depth=2), "decoder": StackExit(depth=2)}), runtime)
    assert runtime.runs("image") == ["image.1", "image.2"]
    assert runtime.runs("decoder") == ["decoder.1", "decoder.2"] * 4
    assert runtime.runs("cross_kv") == ["cross_kv.1", "cross_kv.2"] and runtime.runs("fill") == []
    assert outcome.depths == {"image": 2, "text": 3} and [s.depth for s in outcome.steps] == [2] * 4
    # Every segment reads what the one before it wrote.
    for kind in ("image", "decoder"):
        chain = [r for r in runtime.requests if r.run.startswith(f"{kind}.")][:2]
        assert chain[0].inputs["x"] == f"{kind}.0" and chain[1].inputs["x"] == chain[0].outputs["y"]
    heads = [r for r in runtime.requests if r.run == "head"]
    assert {r.inputs["y"] for r in heads} == {"decoder.0"} and not any(r.store for r in heads)
    assert next(r for r in runtime.requests if r.run == "cross_kv.1").inputs["image_x"] == "image.0"
    # Nobody waits for anything, so nothing is offered to run ahead.
    assert all(r.then is None for r in runtime.requests)


def test_a_slower_policy_fills_the_rows_that_were_left_out() -> None:
    """Under a deadline steps may run other layers than steps before; what those lack is kept."""
    skipping, full = Policy("uniform-skip", {"decoder": StackExit(depth=1)}), Policy("never")
    runtime = Scripted()
    due = Deadline(0.0, 100.0, faster=(skipping,))
    drive(caption_loop(layout(), full, BeamSearch(SearchSettings()), deadline=due), runtime)
    assert runtime.runs("fill") == []  # full depth leaves nothing out
    runtime = Scripted()
    due = Deadline(0.0, 100.0, faster=(full,))
    drive(caption_loop(layout(), skipping, BeamSearch(SearchSettings()), deadline=due), runtime)
    kept = [s.rows for r in runtime.requests if r.run == "head" for s in r.store]
    assert runtime.runs("decoder") == ["decoder.2"] * 4 and kept == [(0,), (1,), (2,), (3,)]


def gated() -> Layout:
    plain = layout()
    *tested, last = plain.stack("image").stages
    image = (*(Stage(s.name, s.depth, s.constants, (SIMILARITY, DEPTH_GATE)) for s in tested), last)
    return changed(plain, "image", image)


class Gated(Scripted):
    """The stem says that one layer is not enough and two may be."""

    def execute(self, request: Request) -> Answer:
        if request.run == "stem":
            self.requests.append(request)
            return Answer({port: [-2.0, 1.0] for port in request.read})
        return super().execute(request)


def caption(policy: Policy, runtime: Scripted, trace: bool = False) -> Outcome:
    search = BeamSearch(SearchSettings())
    return drive(caption_loop(gated(), policy, search, trace=trace), runtime)


def test_a_gate_knows_the_depth_before_the_first_layer() -> None:
    runtime = Gated()
    outcome = caption(Policy("gate", {"image": StackExit(0.6)}), runtime)
    assert outcome.depths["image"] == 2 and runtime.requests[0].read == ("enough",)
    layers = [r for r in runtime.requests if r.run.startswith("image")]
    # Nobody waits for a layer, and none is run ahead that will not be needed.
    assert [(r.run, r.read, r.then and r.then.run) for r in layers] == [
        ("image.0", (), "image.1"),
        ("image.1", (), None),
    ]
    scores = [d.scores[0] for d in outcome.decisions if d.stack == "image"]
    assert scores == pytest.approx([1 / (1 + math.e**2), 1 / (1 + 1 / math.e)])
    assert caption(Policy("gate", {"image": StackExit(0.8)}), Gated()).depths["image"] == 3
    other = Gated()
    assert caption(Policy("mue", {"image": StackExit(0.6)}), other).depths["image"] == 3
    assert other.requests[0].read == ()  # only who asks pays for the answer


def test_a_trace_has_what_the_gate_says() -> None:
    outcome = caption(Policy("never"), Gated(), trace=True)
    told = [d.readings[DEPTH_GATE][0] for d in outcome.decisions if d.stack == "image" and DEPTH_GATE in d.readings]
    assert [round(scores[0], 2) for scores in told] == [0.12, 0.73]


def test_without_a_gate_the_bundle_says_so() -> None:
    with pytest.raises(UsageError, match=r"no enough of image after layer 1.*train --heads"):
        run(Policy("gate", {"image": StackExit(0.6)}), Scripted())


def foreseeing() -> Layout:
    plain = layout()
    *tested, last = plain.decoder.stages
    stages = (*(Stage(s.name, s.depth, s.constants, (SIMILARITY, IMITATION)) for s in tested), last)
    return changed(plain, "decoder", stages)


class Foreseeing(Scripted):
    """Of a mix the head says 5 at once, then eos; of the states 7. It is sure of both."""

    def execute(self, request: Request) -> Answer:
        if request.read != HEAD_PORTS:
            return super().execute(request)
        self.requests.append(request)
        word = (5 if request.inputs["y"] == "decoder_mix" else 7) if len(self.runs("embed")) == 1 else 2
        return Answer(candidates=[([word, 99], [-0.001, -9.0], -0.001 if word == 2 else -9.0)])


def test_deecap_says_the_word_of_the_mix_and_keeps_the_real_state() -> None:
    runtime = Foreseeing()
    loop = caption_loop(
        foreseeing(), Policy("deecap", {"decoder": StackExit(0.9)}, beta=1.0), BeamSearch(SearchSettings())
    )
    outcome = drive(loop, runtime)
    assert outcome.hypotheses[0].tokens == (5, 2) and [s.depth for s in outcome.steps] == [1, 1]
    step = [r for r in runtime.requests if r.run in ("decoder.0", "mix.0", "head")][:3]
    assert [r.run for r in step] == ["decoder.0", "mix.0", "head"]
    assert step[1].inputs == {"y": step[0].outputs["y"]} and step[2].inputs == {"y": step[1].outputs["mix"]}
    assert step[2].store[0].port == step[0].outputs["y"]
    # At the last layer nothing is imagined; a fixed end has its word from the mix too.
    deep = drive(caption_loop(foreseeing(), Policy("deecap"), BeamSearch(SearchSettings())), Foreseeing())
    assert deep.hypotheses[0].tokens == (7, 2) and [s.depth for s in deep.steps] == [3, 3]
    ended = Policy("deecap", {"decoder": StackExit(depth=2)})
    short = drive(caption_loop(foreseeing(), ended, BeamSearch(SearchSettings())), Foreseeing())
    assert short.hypotheses[0].tokens == (5, 2) and [s.depth for s in short.steps] == [2, 2]
    forced = ForcedExits({"image": 3, "text": 3}, (2, 2), ended)
    again = drive(caption_loop(foreseeing(), forced, BeamSearch(SearchSettings())), Foreseeing())
    assert again.hypotheses == short.hypotheses
    with pytest.raises(UsageError, match=r"no mix of the states after layer 2.*train --heads"):
        run(ended, Foreseeing())


def test_a_trace_with_heads_hears_both() -> None:
    loop = caption_loop(foreseeing(), Policy("never"), BeamSearch(SearchSettings()), trace=True, heads=True)
    outcome = drive(loop, Foreseeing())
    assert outcome.hypotheses[0].tokens == (7, 2)
    told = [d.readings for d in outcome.decisions if d.stack == "decoder" and d.depth < 3]
    assert all({MARGIN, IMITATION, AGREEMENT} < readings.keys() for readings in told)


def test_a_stack_that_a_rule_reads_nothing_of_is_not_left_by_score() -> None:
    policy = Policy("pabee", {"image": StackExit(0.5), "decoder": StackExit(0.5)})
    assert policy.threshold("decoder", 1) == 0.5 and policy.threshold("image", 1) == math.inf
    assert Policy("pabee", {"image": StackExit(0.5, depth=2)}).threshold("image", 2) == -math.inf
