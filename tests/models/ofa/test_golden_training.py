"""Answer scoring and the layer-wise loss against the authors' code."""

from __future__ import annotations

import pytest
import torch

from mue_edge.loop.policy import Policy, StackExit
from mue_edge.models.ofa.training.captions import layerwise_loss
from tests.golden import weights
from tests.golden.reference import model

BASE = weights.vectors("base.safetensors")
MUE_VECTORS = weights.vectors("mue.safetensors")
MUE_JSON = weights.read("mue.json")
ONE = (BASE["in.src_tokens"][:1], weights.images()[:1])


def encoder_policy(case: str, theta_decoder: float | None) -> Policy:
    exits = MUE_JSON["enc_published"]["exit"]
    if case == "full":
        return Policy("mue-published", {"decoder": StackExit(theta_decoder)})
    thetas = {"image": exits["img_thres"], "text": exits["txt_thres"], "decoder": theta_decoder}
    return Policy("mue-published", {stack: StackExit(theta) for stack, theta in thetas.items()})


@pytest.mark.parametrize("case", ["full", "exit"])
def test_answers_scored_together(case: str) -> None:
    entailment = MUE_JSON["ve"]
    expected = entailment[case]
    theta = None if case == "full" else expected["decoder_thres"]
    found = model().score(
        *ONE, entailment["prompt"], entailment["candidates"], decomposed=True, policy=encoder_policy(case, theta)
    )
    assert found.scores == pytest.approx(expected["scores"], abs=1e-4)
    assert found.best == expected["answer"]
    assert found.exit == expected["exit_decoder"]
    assert found.exit_scores == pytest.approx(expected["sims"], abs=1e-5)


@pytest.mark.parametrize("case", ["full", "exit"])
def test_answer_logits(case: str) -> None:
    leave = MUE_JSON["ve"][case]["exit_decoder"]
    tokens = MUE_VECTORS["ve.prev_output_tokens"]
    with torch.inference_mode():
        encoded = model().encode(*ONE, decomposed=True, policy=encoder_policy(case, None))
        states = model().decoder.hidden_states(tokens, encoded, lambda depth, a, b: depth == leave)
        logits = model().decoder.project(states[-1])[:, -3:]
    live = tokens[:, -3:].ne(1)
    expected = MUE_VECTORS[f"ve.{case}.logits_last3"]
    torch.testing.assert_close(logits[live], expected[live], atol=1e-4, rtol=1e-4)


def test_one_pass_over_the_prompt_equals_the_joint_call() -> None:
    prompt, answers = MUE_JSON["ve"]["prompt"], [[10], [20], [30]]
    joint = model().score(*ONE, prompt, answers, decomposed=True)
    single = model().score(*ONE, prompt, answers, decomposed=True, form="prompt")
    assert single.scores == pytest.approx(joint.scores, abs=1e-5)
    assert sum(2.718281828**s for s in single.scores) == pytest.approx(1.0, abs=1e-5)


def decoder_states() -> list[torch.Tensor]:
    with torch.no_grad():
        encoded = model().encode(BASE["in.src_tokens"], weights.images(), decomposed=True)
        return model().decoder.hidden_states(BASE["in.prev_output_tokens"], encoded)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_layerwise_loss(smoothing: float) -> None:
    expected = MUE_JSON["loss"][f"eps{smoothing}_dropworst0.0"]
    states, target = decoder_states(), MUE_VECTORS["loss.target"]
    decoder = model().decoder
    smoothed = layerwise_loss(decoder, states[1:], target, smoothing)
    assert smoothed.sum().item() == pytest.approx(expected["loss"], abs=1e-3)
    plain = layerwise_loss(decoder, states[1:], target)
    assert plain.sum().item() == pytest.approx(expected["nll_loss"], abs=1e-3)


def test_target_log_probabilities_at_every_layer() -> None:
    states, target = decoder_states(), MUE_VECTORS["loss.target"]
    live = target.ne(1)
    for i, expected in enumerate(MUE_VECTORS["loss.target_logprob"], start=1):
        with torch.no_grad():
            logits = model().decoder.project(states[i])
        found = torch.log_softmax(logits, -1).gather(2, target[..., None])[..., 0]
        torch.testing.assert_close(found[live], expected[live], atol=1e-4, rtol=1e-4)
        if i in (1, 4):
            torch.testing.assert_close(
                logits[:1, -2:], MUE_VECTORS[f"loss.layer_logits_last2.{i}"], atol=1e-4, rtol=1e-4
            )
