"""Models to compare exits with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mue_edge import models
from mue_edge.calibrate.training.finetune import TrainingSettings
from mue_edge.errors import UsageError
from tests.tools.stickers import made_set
from tools.stickers import small
from tools.stickers.decoders import Frozen, frozen

SETTINGS = TrainingSettings(steps=4, learning_rate=1e-2, log_every=2, save_every=0.0, bf16=False)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Frozen:
    root = made_set.folders(tmp_path_factory.mktemp("small"))
    return frozen(root / "model", root / "cache", 1)


@pytest.fixture(autouse=True)
def few_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small, "BATCH", 4)


def test_the_first_layers_are_taken_and_trained(still: Frozen, tmp_path: Path) -> None:
    made = small.cut(still.model, 1)
    assert torch.equal(made.layers[0].fc1.weight, still.model.decoder.layers[0].fc1.weight)
    found = models.load(small.tune(1, tmp_path / "one", still, SETTINGS))
    assert models.describe(found).depths == (2, 1)
    assert json.loads((tmp_path / "one/arm.json").read_text())["loss"] == "last"
    before = still.model.encoder.state_dict()
    after = found.encoder.state_dict()
    assert all(torch.allclose(before[key], after[key], atol=1e-3) for key in before)  # float16 on disk


def test_losses_and_seeds_make_different_models(still: Frozen, tmp_path: Path) -> None:
    def weights(name: str, loss: small.Loss | None, seed: int) -> torch.Tensor:
        folder = small.tune(None, tmp_path / name, still, SETTINGS, loss=loss, seed=seed)
        found: torch.Tensor = models.load(folder).decoder.layers[0].fc1.weight
        return found

    first = weights("first", None, 0)
    assert torch.equal(first, weights("again", "mean", 0))
    others = [weights("depth", "depth", 0), weights("last", "last", 0), weights("seed", None, 1)]
    assert not any(torch.equal(first, other) for other in others)
    with pytest.raises(UsageError, match="was begun with"):
        small.tune(None, tmp_path / "first", still, SETTINGS, seed=1)
