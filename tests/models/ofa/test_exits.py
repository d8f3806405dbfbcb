"""Exit scores and decisions: what is compared, over what, and who leaves with whom."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mue_edge.errors import UsageError
from mue_edge.loop.policy import ForcedExits, Policy, StackExit
from mue_edge.models.ofa.decoding.incremental import KV_MODES, KvMode
from mue_edge.models.ofa.decoding.score import Form
from mue_edge.models.ofa.network.exits import MUE, MUE_PUBLISHED, MueOptions, exit_scores
from tests.models.ofa.tiny import UNEQUAL, inputs, make

BEFORE, AFTER = torch.randn(2, 3, 2, 4, generator=torch.Generator().manual_seed(5)).unbind(0)
LIVE = torch.tensor([[True, True], [True, False], [True, True]])


def test_flat_scores() -> None:
    ones = torch.ones_like(LIVE)
    batch = exit_scores(BEFORE, AFTER, ones, over="batch", similarity="flat")
    expected = F.cosine_similarity(BEFORE.flatten(), AFTER.flatten(), 0)
    assert batch.tolist() == pytest.approx([float(expected)], abs=1e-6)
    for found in (
        exit_scores(BEFORE, AFTER, LIVE, over="sample", similarity="flat"),
        exit_scores(BEFORE, AFTER, LIVE, over="rows", similarity="flat"),
    ):
        wanted = [F.cosine_similarity(BEFORE[i][LIVE[i]].flatten(), AFTER[i][LIVE[i]].flatten(), 0) for i in range(3)]
        assert found.tolist() == pytest.approx([float(w) for w in wanted], abs=1e-6)


def test_mean_scores() -> None:
    each = F.cosine_similarity(BEFORE, AFTER, -1)
    found = exit_scores(BEFORE, AFTER, LIVE, over="sample", similarity="mean")
    assert found.tolist() == pytest.approx([float(each[i][LIVE[i]].mean()) for i in range(3)], abs=1e-6)
    batch = exit_scores(BEFORE, AFTER, LIVE, over="batch", similarity="mean")
    assert batch.tolist() == pytest.approx([float(each[LIVE].mean())], abs=1e-6)


def test_scores_of_equal_and_of_empty_states() -> None:
    same = exit_scores(BEFORE, BEFORE, LIVE, over="rows", similarity="flat")
    assert same.tolist() == pytest.approx([1.0] * 3, abs=1e-12)
    nobody = exit_scores(BEFORE, AFTER, torch.zeros_like(LIVE), over="sample", similarity="mean")
    assert nobody.tolist() == [1.0] * 3


@torch.inference_mode()
def test_samples_leave_one_by_one() -> None:
    """In a batch with padding, each sample does what it does alone."""
    model = make()
    tokens, pixels = inputs(samples=3)
    tokens[1, 3:] = torch.tensor([2, 1])
    lengths = [5, 4, 5]
    scores = [model.encode(tokens, pixels, decomposed=True).scores[m] for m in ("image", "text")]
    # Between the samples' scores after layer 2, so that they part there.
    theta_image, theta_text = (sorted(s[1] for s in by_sample)[1] - 1e-6 for by_sample in scores)
    policy = Policy("mue", {"image": StackExit(theta_image), "text": StackExit(theta_text)}, min_depth=2)
    together = model.encode(tokens, pixels, decomposed=True, policy=policy)
    assert len(set(together.exits["image"])) == 2 and len(set(together.exits["text"])) == 2
    for i, length in enumerate(lengths):
        alone = model.encode(tokens[i : i + 1, :length], pixels[i : i + 1], decomposed=True, policy=policy)
        assert {name: (v[i],) for name, v in together.exits.items()} == alone.exits
        for name in ("image", "text"):
            assert together.scores[name][i] == pytest.approx(alone.scores[name][0], abs=1e-6)
        live = ~together.padding_mask[i]
        torch.testing.assert_close(together.hidden[i, live], alone.hidden[0], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_batch_as_one_vector_leaves_together() -> None:
    model = make()
    tokens, pixels = inputs(samples=3)
    scores = model.encode(tokens, pixels, decomposed=True, options=MUE_PUBLISHED).scores["image"]
    assert scores[0] == scores[1] == scores[2]
    policy = Policy("mue-published", {"image": StackExit(scores[0][0] - 1e-6)})
    assert model.encode(tokens, pixels, decomposed=True, policy=policy).exits["image"] == (1, 1, 1)


@torch.inference_mode()
def test_the_test_is_strict_and_one_never_exits() -> None:
    model = make()
    full = model.encode(*inputs(1), decomposed=True)
    score = full.scores["text"][0][0]
    at = model.encode(*inputs(1), decomposed=True, policy=Policy("mue", {"text": StackExit(score)}))
    below = model.encode(
        *inputs(1), decomposed=True, policy=Policy("mue", {"text": StackExit(math.nextafter(score, 0))})
    )
    assert at.exits["text"][0] > 1 == below.exits["text"][0]
    assert model.encode(*inputs(1), decomposed=True, policy=Policy("mue", {"text": StackExit(1.0)})).exits["text"] == (
        3,
    )


@torch.inference_mode()
def test_forced_depths() -> None:
    model = make()
    policy = ForcedExits({"image": 2, "text": 1}, (3, 1, 2, 3, 1))
    encoded = model.encode(*inputs(1), decomposed=True, policy=policy)
    assert encoded.exits == {"image": (2,), "text": (1,)}
    [[found]] = model.generate(*inputs(1), decomposed=True, policy=policy, max_length=4, min_length=4)
    assert found.exits == (3, 1, 2, 3, 1)
    assert [len(scores) for scores in found.exit_scores] == [3, 1, 2, 3, 1]


def test_rows_wait_for_the_slowest_beam() -> None:
    model = make(UNEQUAL)
    free = model.generate(*inputs(1), decomposed=True, beam=3, max_length=3)[0][0]
    each = replace(MUE, decoder="sample")
    together = model.generate(*inputs(1), decomposed=True, beam=3, max_length=3, options=each)[0][0]
    assert free.tokens == together.tokens
    # The first word has one row; from then on the lowest row lies below all rows as one vector.
    assert free.exit_scores[0] == pytest.approx(together.exit_scores[0])
    assert free.exit_scores[1][0] < together.exit_scores[1][0]


@pytest.mark.parametrize("kv", KV_MODES)
@pytest.mark.parametrize("beam", [1, 3])
def test_batch_of_one_vector_equals_singles_without_exits(kv: KvMode, beam: int) -> None:
    """Samples that share the decoder's calls do not disturb each other, also when one ends early."""
    model = make(UNEQUAL)
    options = MueOptions(decoder="batch")
    run = partial(model.generate, *inputs(3), decomposed=True, beam=beam, kv=kv, max_length=6)
    together, alone = run(options=options), run()
    for ours, theirs in zip(together, alone, strict=True):
        assert [h.tokens for h in ours] == [h.tokens for h in theirs]
        assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], abs=1e-5)


def test_kv_modes_under_early_exits() -> None:
    """Of two layers, the second's inputs are the first's outputs, wherever a word left: here what is
    propagated is what a run over the whole prefix finds, while missing and copied rows differ."""
    model = make(UNEQUAL)
    policy = ForcedExits({"image": 1, "text": 1}, (2, 1, 1, 2, 1, 2, 1))
    runs = [
        model.generate(*inputs(1), decomposed=True, policy=policy, kv=kv, max_length=6, min_length=6)[0][0]
        for kv in KV_MODES
    ]
    assert all(run.exits == policy.decoder for run in runs)
    scores = {kv: run.score for kv, run in zip(KV_MODES, runs, strict=True)}
    assert scores["propagate"] == pytest.approx(scores["full_prefix"], abs=1e-5)
    assert abs(scores["published"] - scores["propagate"]) > 1e-3
    assert abs(scores["copy_clone"] - scores["propagate"]) > 1e-3
    assert abs(scores["copy_clone"] - scores["published"]) > 1e-3


def test_unknown_kv_mode() -> None:
    with pytest.raises(UsageError, match="known: propagate, published, copy_clone, full_prefix"):
        make().generate(*inputs(1), kv="holes")  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["joint", "prompt"])
def test_scoring_holds_the_threshold_without_decay(form: Form) -> None:
    model, answers = make(), [[6], [7], [8]]
    score = partial(model.score, *inputs(1), [0, 5, 9], answers, decomposed=True, form=form)
    full = score()
    assert full.exit == 3 and len(full.scores) == 3
    theta = full.exit_scores[0] - 1e-6
    for rule in ("mue", "mue-published"):
        # With the rule's own options: the published one has another score.
        first = score(policy=Policy(rule)).exit_scores[0]
        found = score(policy=Policy(rule, {"decoder": StackExit(first - 1e-6)}, warmup=0.5))
        assert found.exit == 1
        assert score(policy=Policy(rule, {"decoder": StackExit(first + 1e-6)})).exit > 1
    assert score(policy=Policy("mue", {"decoder": StackExit(theta)}, min_depth=2)).exit > 1
    assert math.fsum(map(math.exp, full.scores)) == pytest.approx(1.0, abs=1e-5)


def test_scoring_refuses_what_it_cannot_do() -> None:
    model = make()
    with pytest.raises(UsageError, match="one sample"):
        model.score(*inputs(2), [0, 5], [[6], [7]])
    with pytest.raises(UsageError, match="one token each"):
        model.score(*inputs(1), [0, 5], [[6, 8], [7]], form="prompt")
    with pytest.raises(UsageError, match="at least one answer"):
        model.score(*inputs(1), [0, 5], [])
