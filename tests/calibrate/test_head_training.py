"""Heads for exit tests: what they are fitted to, and that a fitted one foretells it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch

from mue_edge.calibrate.head_training import train
from mue_edge.errors import InputFileError, UsageError
from mue_edge.models import captioning, heads
from mue_edge.models.ofa.greedy import greedy
from mue_edge.models.ofa.options import options_for
from mue_edge.policy import Policy
from tests.models.ofa.tiny import TINY, make

PROMPT = [0, 5, 6, 7, 2]


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 48, 48, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_steps_are_the_words_of_greedy_captions() -> None:
    model, pixels = make(decomposed=True), pictures(3)
    found = captioning.steps(model, PROMPT, pixels, torch.Generator().manual_seed(0))
    drawn = int(torch.randint(1, TINY.encoder_layers + 1, (), generator=torch.Generator().manual_seed(0)))
    words = greedy(model, PROMPT, pixels, max_length=24, image_depth=drawn)
    assert len(found.states) == sum(min(24, len(w) + 1) for w in words)
    assert found.states.shape[1:] == (TINY.decoder_layers + 1, TINY.decoder_dim)
    logits = model.decoder.project(found.states)
    logits[..., [TINY.pad, TINY.bos]] = -torch.inf
    best = logits.argmax(-1)
    assert best[0, -1] == (words[0] or [TINY.eos])[0]
    assert torch.equal(found.same, best[:, 1:-1] == best[:, -1:])
    assert found.margin.min() > 0 and found.margin.max() < 1


def test_a_head_learns_the_margin() -> None:
    model = make(decomposed=True)
    batches = [pictures(4, seed) for seed in range(5)]
    found, boundaries = train(model, PROMPT, batches)
    assert sorted(found) == [b.depth for b in boundaries] == [1, 2]
    held = captioning.steps(model, PROMPT, batches[0], torch.Generator().manual_seed(0))
    for depth, (weight, bias) in found.items():
        told = torch.sigmoid(held.states[:, depth] @ weight + bias)
        both = torch.corrcoef(torch.stack([told, held.margin[:, depth - 1]]))
        assert both[0, 1] > 0.5, depth
    with pytest.raises(UsageError, match="at least two batches"):
        train(model, PROMPT, batches[:1])


def test_heads_are_kept_beside_the_weights_and_checked(tmp_path: Path) -> None:
    assert heads.read(tmp_path, 3, 4) == {}
    made = {depth: (torch.randn(4), torch.tensor(0.5)) for depth in (1, 2)}
    heads.write(tmp_path, made)
    again = heads.read(tmp_path, 3, 4)
    assert all(torch.equal(a, b) for d in made for a, b in zip(made[d], again[d], strict=True))
    with pytest.raises(InputFileError, match=r"decoder layers 1 to 3.*train --heads"):
        heads.read(tmp_path, 4, 4)
    made[1][0][0] = torch.nan
    heads.write(tmp_path, made)
    with pytest.raises(InputFileError, match="not finite"):
        heads.read(tmp_path, 3, 4)


def test_the_torch_model_knows_similarity_only() -> None:
    with pytest.raises(UsageError, match="similarity only, not margin"):
        options_for(Policy("calm-softmax", theta_decoder=0.5), None)
