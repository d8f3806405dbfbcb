"""The network against the authors' code on rule-made weights (tests/golden)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mue_edge.loop.policy import Policy, StackExit
from mue_edge.models.ofa.model import EncoderOutput, Model
from mue_edge.models.ofa.network import positions as pos
from mue_edge.models.ofa.network.exits import MUE, MUE_PUBLISHED
from tests.golden import weights
from tests.golden.reference import config, model

VARIANTS = {"enc_published": False, "enc_with_image_relpos": True}
PATCHES = 36
BASE = weights.vectors("base.safetensors")
MUE_VECTORS = weights.vectors("mue.safetensors")


def close(found: Tensor, expected: Tensor, live: Tensor | None = None) -> None:
    if live is not None:
        found, expected = found[live], expected[live]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def same_scores(found: Any, expected: Any) -> None:
    assert len(found) == len(expected)
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 1e-5


@pytest.fixture(scope="module")
def joint() -> EncoderOutput:
    with torch.inference_mode():
        return model().encode(BASE["in.src_tokens"], weights.images(), decomposed=False)


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.inference_mode():
        yield


def decomposed(variant: str, samples: slice, policy: Policy | None = None, options: Any = None) -> EncoderOutput:
    network = model(image_relative_bias=VARIANTS[variant])
    return network.encode(
        BASE["in.src_tokens"][samples], weights.images()[samples], decomposed=True, policy=policy, options=options
    )


def test_weights_and_images_are_those_of_the_vectors() -> None:
    check = weights.read("config.json")["check"]
    assert weights.weights_sha256() == check["weights_sha256"]
    assert weights.images_sha256() == check["patch_images_sha256"]


def test_trunk() -> None:
    features = model().encoder.embed_images(weights.images())
    close(features[:, ::16], BASE["enc.resnet_every16"])


def test_image_positions() -> None:
    ids = pos.image_position_ids(6, 6, config().image_bucket_size)
    assert torch.equal(ids.expand(2, -1), BASE["enc.image_position_ids"])


def test_joint_encoder_layer_by_layer(joint: EncoderOutput) -> None:
    live = ~BASE["enc.padding_mask"]
    assert torch.equal(joint.padding_mask, BASE["enc.padding_mask"])
    close(joint.positions, BASE["enc.position_embeddings"])
    for i, layer in enumerate(joint.layers):
        close(layer, BASE[f"enc.hidden.{i}"], live)
    assert len(joint.layers) == 5
    close(joint.hidden, BASE["enc.out"], live)


def test_encoder_bias(joint: EncoderOutput) -> None:
    encoder = model().encoder
    _, grid = encoder.embed_patches(weights.images())
    words = encoder.text_positions(BASE["in.src_tokens"].shape[1])
    bias = encoder.joint_bias(encoder.image_positions(grid), words, grid)
    for i in (0, 3):
        close(bias(i)[None], BASE[f"enc.self_attn_bias.{i}"])


def test_decoder_layer_by_layer(joint: EncoderOutput) -> None:
    decoder, tokens = model().decoder, BASE["in.prev_output_tokens"]
    live = tokens.ne(config().pad)
    last = live.sum(1) - 1
    states = decoder.hidden_states(tokens, joint)
    for i, state in enumerate(states):
        close(state, BASE[f"dec.hidden.{i}"], live)
        if i:
            logits = decoder.project(state)[torch.arange(2), last]
            close(logits, BASE[f"dec.layer_logits_last.{i}"])
    assert len(states) == 5
    close(model().decode(tokens, joint), BASE["dec.logits"], live)


def test_decoder_biases(joint: EncoderOutput) -> None:
    decoder, length = model().decoder, BASE["in.prev_output_tokens"].shape[1]
    biases = decoder.self_biases(length)
    for i in (0, 3):
        close(biases[i][None], BASE[f"dec.self_attn_bias.{i}"])
    close(decoder.cross_bias(length, joint.positions)[None], BASE["dec.cross_attn_bias"])


def test_one_sample_alone() -> None:
    output = model().encode(BASE["in.src_tokens"][:1], weights.images()[:1], decomposed=False)
    close(output.hidden, BASE["single.enc_out"])
    close(model().decode(BASE["single.prev_output_tokens"], output), BASE["single.logits"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_decomposed_encoder_at_full_depth(variant: str) -> None:
    expected = weights.read("mue.json")[variant]["full"]
    output = decomposed(variant, slice(1))
    for i in range(1, 5):
        close(output.layers[i][:, :PATCHES], MUE_VECTORS[f"{variant}.image_hidden.{i}"])
        # The text pass is stored once: the variants differ in the image only.
        close(output.layers[i][:, PATCHES:], MUE_VECTORS[f"enc_published.text_hidden.{i}"])
    close(output.hidden, MUE_VECTORS[f"{variant}.full_out"])
    same_scores(output.scores["image"][0], expected["image_sims"])
    same_scores(output.scores["text"][0], expected["text_sims"])
    assert output.exits == {"image": (4,), "text": (4,)}


@pytest.mark.parametrize("options", [MUE, MUE_PUBLISHED])
@pytest.mark.parametrize("variant", VARIANTS)
def test_exits_of_the_decomposed_encoder(variant: str, options: Any) -> None:
    expected = weights.read("mue.json")[variant]["exit"]
    policy = Policy("mue", {"image": StackExit(expected["img_thres"]), "text": StackExit(expected["txt_thres"])})
    output = decomposed(variant, slice(1), policy, options)
    assert output.exits == {"image": (expected["exit_image"],), "text": (expected["exit_text"],)}
    close(output.hidden, MUE_VECTORS[f"{variant}.exit_out"])
    same_scores(output.scores["text"][0] + output.scores["image"][0], expected["sims_in_call_order"])
    # A modality that has left keeps its state.
    assert torch.equal(output.layers[4][:, PATCHES:], output.layers[2][:, PATCHES:])
    assert torch.equal(output.layers[4][:, :PATCHES], output.layers[3][:, :PATCHES])


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_the_image_leaves(variant: str) -> None:
    expected = weights.read("mue.json")[variant]["exit_image_only"]
    policy = Policy("mue", {"image": StackExit(expected["img_thres"]), "text": StackExit(expected["txt_thres"])})
    output = decomposed(variant, slice(1), policy)
    assert output.exits == {"image": (expected["exit_image"],), "text": (expected["exit_text"],)}
    close(output.hidden, MUE_VECTORS[f"{variant}.exit_image_only_out"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_vector_over_batch_and_padding(variant: str) -> None:
    expected = weights.read("mue.json")[variant]["batch_full"]
    output = decomposed(variant, slice(2), options=MUE_PUBLISHED)
    close(output.hidden, MUE_VECTORS[f"{variant}.batch_full_out"], ~output.padding_mask)
    for sample in range(2):
        same_scores(output.scores["image"][sample], expected["image_sims"])
        same_scores(output.scores["text"][sample], expected["text_sims"])
    sane = decomposed(variant, slice(2), options=MUE)
    assert abs(sane.scores["text"][1][0] - expected["text_sims"][0]) > 1e-3


def test_network_has_no_parameter_that_the_vectors_lack() -> None:
    known = weights.weights()
    assert all(known[key].shape == value.shape for key, value in Model(config()).named_parameters())
