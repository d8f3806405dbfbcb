"""The training objective agrees with the network's own encoder and loss; greedy decoding with generation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mue_edge.models.ofa.config import OFAConfig
from mue_edge.models.ofa.decoding.greedy import greedy
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.training.captions import layerwise_loss, sample_depths
from tools.stickers.objective import Batch, Depths, Students, decoder_loss, encode, losses

PROMPT = [0, 5, 6, 2]


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    config = replace(
        OFAConfig(),
        vocab_size=40,
        encoder_layers=3,
        decoder_layers=3,
        encoder_dim=32,
        decoder_dim=32,
        encoder_ffn=64,
        decoder_ffn=64,
        encoder_heads=2,
        decoder_heads=2,
        trunk_blocks=(1, 1, 1),
        trunk_width=8,
        image_size=64,
        orig_image_size=64,
        token_bucket_size=8,
        image_bucket_size=6,
        max_source_positions=32,
        max_target_positions=32,
        decomposed=True,
    )
    return Model(config).eval()


def _batch() -> Batch:
    rng = torch.Generator().manual_seed(1)
    tokens = torch.tensor([[0, 7, 8, 9, 10, 2], [0, 11, 2, 1, 1, 1], [0, 12, 13, 2, 1, 1], [0, 14, 2, 1, 1, 1]])
    return Batch(torch.randn(4, 3, 64, 64, generator=rng), tokens, torch.randn(2, 16, 5, generator=rng))


@pytest.mark.parametrize("depths", [(3, 3), (1, 2), (3, 1)])
def test_encoding_under_a_constant_prompt_equals_the_encoder_s(model: Model, depths: Depths) -> None:
    batch = _batch()
    with torch.no_grad():
        found, trunk = encode(model, torch.tensor([PROMPT]), batch.pixels, depths)
        expected = model.encoder.encode(
            torch.tensor([PROMPT] * 4), batch.pixels, depths=dict(zip(("image", "text"), depths))
        )
    assert torch.allclose(found.hidden, expected.hidden, atol=1e-5)
    assert torch.allclose(found.positions[0], expected.positions[0], atol=1e-6)
    assert trunk.shape == (4, 16, model.config.trunk_channels)


def test_splitting_by_length_changes_no_loss(model: Model) -> None:
    batch, students = _batch(), Students(model, 5)
    with torch.no_grad():
        loss, figures = losses(model, students, torch.tensor([PROMPT]), batch, (3, 3), label_smoothing=0.1)
        encoded, _ = encode(model, torch.tensor([PROMPT]), batch.pixels, (3, 3))
        states = model.decoder.hidden_states(batch.tokens[:, :-1], encoded)[1:]
        by_layer = layerwise_loss(model.decoder, states, batch.tokens[:, 1:], 0.1)
    words = int(batch.tokens[:, 1:].ne(1).sum())
    assert float(loss) == pytest.approx(float(by_layer.mean()) / words, rel=1e-5)
    assert figures["words"] == pytest.approx(float(by_layer[-1]) / words, rel=1e-5)
    assert figures["distance"] == 0.0


def test_deep_layers_may_count_more(model: Model) -> None:
    batch = _batch()
    with torch.no_grad():
        encoded, _ = encode(model, torch.tensor([PROMPT]), batch.pixels, (3, 3))
        states = model.decoder.hidden_states(batch.tokens[:, :-1], encoded)[1:]
        by_layer = layerwise_loss(model.decoder, states, batch.tokens[:, 1:])
        words = int(batch.tokens[:, 1:].ne(1).sum())
        loss, _ = decoder_loss(model.decoder, encoded, batch.tokens, over_layers="depth")
    first, second, third = by_layer.tolist()
    assert float(loss) == pytest.approx((first + 2 * second + 3 * third) / 6 / words, rel=1e-5)


def test_the_teacher_reaches_trunk_and_encoder(model: Model) -> None:
    batch, students = _batch(), Students(model, 5)
    prompt = torch.tensor([PROMPT])
    plain, _ = losses(model, students, prompt, batch, (3, 3))
    taught, figures = losses(model, students, prompt, batch, (3, 3), distil=2.0)
    assert float(taught.detach()) == pytest.approx(float(plain.detach()) + 2 * figures["distance"], rel=1e-4)
    model.zero_grad()
    taught.backward()  # type: ignore[no-untyped-call]
    assert students.trunk.weight.grad is not None
    assert float(students.trunk.weight.grad.abs().sum()) > 0
    assert model.encoder.embed_images.conv1.weight.grad is not None
    model.zero_grad()


def test_sampled_depths_cover_all_layers_and_are_repeatable() -> None:
    rng = torch.Generator().manual_seed(0)
    drawn = [sample_depths(4, 0.5, rng) for _ in range(400)]
    full = sum(d == (4, 4) for d in drawn) / len(drawn)
    assert 0.4 < full < 0.65
    assert {image for image, _ in drawn} == {text for _, text in drawn} == {1, 2, 3, 4}
    rng.manual_seed(0)
    assert [sample_depths(4, 0.5, rng) for _ in range(400)] == drawn


def test_greedy_equals_generation(model: Model) -> None:
    pixels = _batch().pixels
    found = greedy(model, PROMPT, pixels, max_length=8)
    hypotheses = model.generate(torch.tensor([PROMPT] * 4), pixels, beam=1, max_length=8, no_repeat_ngram=0)
    for row, several in zip(found, hypotheses, strict=True):
        best = several[0] if isinstance(several, list) else several
        expected = [token for token in list(best.tokens) if token != 2]
        assert row[: len(expected)] == expected[: len(row)]


def test_greedy_depths_end_where_they_should(model: Model) -> None:
    pixels = _batch().pixels
    full = greedy(model, PROMPT, pixels, max_length=6)
    assert greedy(model, PROMPT, pixels, max_length=6, encoder_depth=3, decoder_depth=3) == full
    assert greedy(model, PROMPT, pixels, max_length=6, encoder_depth=1, decoder_depth=1) != full
