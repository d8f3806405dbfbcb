"""Generation against the authors' code: plain search, and MuE's exits in all K/V modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mue_edge.loop.policy import Policy, StackExit
from mue_edge.models.ofa.decoding.incremental import KV_MODES, DecoderCache
from mue_edge.models.ofa.model import GeneratedHypothesis
from tests.golden import weights
from tests.golden.reference import model

BASE = weights.vectors("base.safetensors")
MUE_VECTORS = weights.vectors("mue.safetensors")
MUE_JSON = weights.read("mue.json")
RUNS = [
    (variant, mode, beam)
    for variant in ("enc_published", "enc_with_image_relpos")
    for mode in KV_MODES
    for beam in (1, 5)
    if f"kv_{mode}_beam{beam}" in MUE_JSON[variant]
]


def assert_same(found: Sequence[GeneratedHypothesis], expected: Sequence[dict[str, Any]]) -> None:
    assert [list(h.tokens) for h in found] == [e["tokens"] for e in expected]
    for h, e in zip(found, expected, strict=True):
        assert h.score == pytest.approx(e["score"], abs=1e-4)
        assert h.positional_scores == pytest.approx(e["positional_scores"], abs=1e-4)


def policy(variant: str, theta_decoder: float | None) -> Policy:
    exits = MUE_JSON[variant]["exit"]
    thetas = {"image": exits["img_thres"], "text": exits["txt_thres"], "decoder": theta_decoder}
    return Policy("mue-published", {stack: StackExit(theta) for stack, theta in thetas.items()})


@pytest.mark.parametrize("beam", [1, 5])
def test_plain_search_over_a_batch(beam: int) -> None:
    found = model().generate(BASE["in.src_tokens"], weights.images(), beam=beam, decomposed=False)
    expected = weights.read("base.json")[f"generate_beam{beam}"]
    assert len(found) == len(expected) == 2
    for hypotheses, wanted in zip(found, expected, strict=True):
        assert_same(hypotheses, wanted)


@pytest.mark.parametrize("variant", ["enc_published", "enc_with_image_relpos"])
def test_decoder_that_never_exits(variant: str) -> None:
    expected = MUE_JSON[variant]["dec_full"]
    network = model(image_relative_bias=variant == "enc_with_image_relpos")
    [[found]] = network.generate(
        BASE["in.src_tokens"][:1], weights.images()[:1], decomposed=True, policy=policy(variant, None)
    )
    assert list(found.tokens) == expected["tokens"]
    assert list(found.exits) == expected["exits"]
    assert found.score == pytest.approx(expected["score"], abs=1e-4)
    for ours, theirs in zip(found.exit_scores, expected["sims"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize(("variant", "mode", "beam"), RUNS)
def test_exits(variant: str, mode: Any, beam: int) -> None:
    expected = MUE_JSON[variant][f"kv_{mode}_beam{beam}"]
    network = model(image_relative_bias=variant == "enc_with_image_relpos")
    [found] = network.generate(
        BASE["in.src_tokens"][:1],
        weights.images()[:1],
        decomposed=True,
        beam=beam,
        kv=mode,
        policy=policy(variant, expected["decoder_thres"]),
    )
    assert_same(found, expected["hyps"])
    assert list(found[0].exits) == expected["exits"]
    for ours, theirs in zip(found[0].exit_scores, expected["sims"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    exits = MUE_JSON[variant]["exit"]
    assert found[0].encoder_exits == {"image": exits["exit_image"], "text": exits["exit_text"]}


def test_every_mode_has_vectors() -> None:
    assert {mode for variant, mode, _ in RUNS if variant == "enc_published"} == set(KV_MODES)


@pytest.mark.parametrize(("variant", "mode"), [(v, m) for v, m, beam in RUNS if beam == 1])
def test_logits_and_caches_step_by_step(variant: str, mode: Any) -> None:
    """Replays the tokens and exits that are expected, so that a wrong logit cannot hide behind a token."""
    expected = MUE_JSON[variant][f"kv_{mode}_beam1"]
    network = model(image_relative_bias=variant == "enc_with_image_relpos")
    tokens, exits = expected["hyps"][0]["tokens"], expected["exits"]
    with torch.inference_mode():
        encoded = network.encode(
            BASE["in.src_tokens"][:1], weights.images()[:1], decomposed=True, policy=policy(variant, None)
        )
        cache = DecoderCache(network.decoder, encoded, len(tokens), mode)
        for step, token in enumerate([0, *tokens[:-1]]):
            x = cache.step(torch.tensor([token]), lambda depth, a, b, leave=exits[step]: bool(depth == leave))
            logits = network.decoder.project(x)[0, 0]
            torch.testing.assert_close(
                logits, MUE_VECTORS[f"{variant}.kv_{mode}.step_logits"][step], atol=1e-4, rtol=1e-4
            )
    if "self_kv_lengths_after_last_step" in expected:
        assert cache.lengths() == expected["self_kv_lengths_after_last_step"]


def test_thresholds_of_the_published_schedule() -> None:
    expected = MUE_JSON["enc_published"]["kv_published_beam1"]
    published = policy("enc_published", expected["decoder_thres"])
    ours = [published.threshold("decoder", 1, step, 16) for step in range(17)]
    assert all(threshold == float("inf") for threshold in ours[:6])
    assert ours[6:] == pytest.approx(expected["thresholds"][6:])
