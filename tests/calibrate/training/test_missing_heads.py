"""Heads that a model lacks are trained into a copy."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mue_edge.bundle.manifest import Preprocess
from mue_edge.calibrate.training import missing_heads
from mue_edge.models import heads, load
from mue_edge.models.heads import KINDS
from tests.calibrate import captioned


def shown(p: Preprocess) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.rand(6, 3, p.height, p.width, generator=rng) * 2 - 1 for _ in range(3)]


def silent(_label: str, _length: int) -> nullcontext[Callable[[], None]]:
    return nullcontext(lambda: None)


def test_what_is_missing_is_trained_once_and_the_rest_left(tmp_path: Path) -> None:
    model = captioned.model_folder(tmp_path / "model")
    before = {file.name: file.read_bytes() for file in model.iterdir()}
    first = missing_heads.completed(model, tmp_path / "full", shown, silent)
    found = load_file(first / heads.FILE)
    assert {key.partition(".")[0] for key in found} == set(KINDS)
    assert {file.name: file.read_bytes() for file in model.iterdir()} == before

    def never(_p: Preprocess) -> list[Tensor]:
        pytest.fail("trained again")

    assert missing_heads.completed(model, tmp_path / "full", never, silent) == first
    assert missing_heads.completed(first, tmp_path / "other", never, silent) == first
    assert not (tmp_path / "other").exists()


def test_heads_that_are_there_stay(tmp_path: Path) -> None:
    model = captioned.model_folder(tmp_path / "model")
    whole = load(missing_heads.completed(model, tmp_path / "a", shown, silent)).heads
    own = {"gate": {name: value + 1 for name, value in whole["gate"].items()}}
    heads.write(model, own)
    again = load(missing_heads.completed(model, tmp_path / "b", shown, silent)).heads
    assert all(torch.equal(again["gate"][name], value) for name, value in own["gate"].items())
    assert set(again) == set(KINDS)
