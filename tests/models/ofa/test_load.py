"""Model folders: what is written loads, and what does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import mue_edge.models
from mue_edge.errors import InputFileError
from mue_edge.models.ofa.model import Model
from mue_edge.models.weights import stored_weights
from tests.models.ofa.tiny import TINY, UNEQUAL, inputs, make, targets


def write(folder: Path, model: Model, weights: dict[str, Tensor] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config.to_json()))
    save_file(stored_weights(model) if weights is None else weights, folder / "model.safetensors")
    return folder


@torch.inference_mode()
def test_what_is_stored_loads_again(tmp_path: Path) -> None:
    for config in (TINY, UNEQUAL):
        model = make(config)
        loaded = mue_edge.models.load(write(tmp_path / "model", model))
        assert not loaded.training and loaded.config == config
        found, expected = (m.decode(targets(), m.encode(*inputs(), decomposed=True)) for m in (loaded, model))
        assert torch.equal(found, expected)


def test_tied_tables_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    stored = stored_weights(make())
    tables = [key for key, value in stored.items() if value.shape == (40, 16)]
    assert tables == ["encoder.embed_tokens.weight"]
    assert not any(key.endswith(("num_batches_tracked", "version", "bucket")) for key in stored)
    loaded = mue_edge.models.load(write(tmp_path / "model", make()))
    assert loaded.decoder.projection_weight is loaded.encoder.embed_tokens.weight


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    model = make()
    halves = {key: value.half() for key, value in stored_weights(model).items()}
    loaded = mue_edge.models.load(write(tmp_path / "model", model, halves))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert {p.device.type for p in [*loaded.parameters(), *loaded.buffers()]} == {"cpu"}


def test_everything_that_does_not_fit_is_named(tmp_path: Path) -> None:
    weights = stored_weights(make())
    del weights["encoder.layers.1.fc1.bias"], weights["decoder.pos_ln.weight"]
    weights["encoder.extra"] = torch.zeros(1)
    weights["decoder.layer_norm.bias"] = torch.zeros(3)
    weights["encoder.layer_norm.bias"] = torch.zeros(16, dtype=torch.long)
    with pytest.raises(InputFileError) as caught:
        mue_edge.models.load(write(tmp_path / "model", make(), weights))
    message = str(caught.value)
    for expected in (
        "missing encoder.layers.1.fc1.bias",
        "missing decoder.pos_ln.weight",
        "surplus encoder.extra",
        "decoder.layer_norm.bias has shape [3], expected [16]",
        "encoder.layer_norm.bias has type torch.int64",
    ):
        assert expected in message


def test_files_that_are_not_there_or_damaged(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", make())
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputFileError, match="not a safetensors file"):
        mue_edge.models.load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputFileError, match=r"holds no model\.safetensors"):
        mue_edge.models.load(folder)
    with pytest.raises(InputFileError, match="not a model folder"):
        mue_edge.models.load(tmp_path / "nothing")
