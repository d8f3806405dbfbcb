"""Decoders on a frozen encoder: what stands still, what arms share, and that a stop changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from mue_edge.apps.stickers import evaluation
from mue_edge.bundle.manifest import Preprocess
from mue_edge.calibrate.data import augment
from mue_edge.calibrate.metrics import coco_metrics
from mue_edge.calibrate.training.finetune import TrainingSettings
from mue_edge.errors import UsageError
from tests.tools.stickers import made_set
from tools.stickers import decoders, encoded
from tools.stickers.batches import Views
from tools.stickers.decoders import ARMS, LAST, SHARED, SINGLE, Arm, Frozen, fresh, frozen, train_arm
from tools.stickers.encoded import EncodedBatches
from tools.stickers.figures import UNION
from tools.stickers.objective import encode
from tools.stickers.study import log_of

SETTINGS = TrainingSettings(steps=6, learning_rate=1e-2, log_every=2, save_every=0.0, bf16=False)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_set.folders(tmp_path_factory.mktemp("decoders"))


@pytest.fixture(scope="module")
def still(places: Path) -> Frozen:
    return frozen(places / "model", places / "cache", 2)


def test_arms_begin_alike_in_what_they_share(still: Frozen) -> None:
    shared, single, last = (fresh(still.model, arm, 5).state_dict() for arm in ARMS)
    assert shared.keys() == last.keys() > single.keys()
    assert all(torch.equal(shared[key], last[key]) for key in shared)
    assert all(torch.equal(shared[key], single[key]) for key in single)
    other = fresh(still.model, SINGLE, 6).state_dict()
    assert not torch.equal(other["layers.0.fc1.weight"], single["layers.0.fc1.weight"])


def test_arms_of_a_seed_see_the_same_batches(still: Frozen) -> None:
    one, same, other = (EncodedBatches(still.kept, still.data, still.learner.tokenizer, 4, seed) for seed in (1, 1, 2))
    for step in (0, 3):
        assert torch.equal(one(step)[0].hidden, same(step)[0].hidden)
        assert torch.equal(one(step)[1], same(step)[1])
    assert not torch.equal(one(0)[0].hidden, other(0)[0].hidden)


def plain(pictures: NDArray[np.uint8]) -> Tensor:
    return augment.normalise(augment.on_ground(augment.place(torch.from_numpy(pictures), None)))


class Plain(Views):
    """The pictures as they are."""

    def __call__(self, chosen: NDArray[np.int64], move: Tensor, rng: torch.Generator, *, whole: int = 0) -> Tensor:
        return plain(self.data.pixels[chosen])


def test_views_are_scaled_as_the_model_wants(still: Frozen) -> None:
    data = still.data
    p = Preprocess(*data.pixels.shape[1:3], mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    rows, move = data.rows("train")[:4], augment.moves(4, torch.Generator().manual_seed(1))
    own, halves = (
        Views(data, scale)(rows, move, torch.Generator().manual_seed(2)) for scale in (p, still.model.config.preprocess)
    )
    assert torch.allclose(own, augment.normalise(halves / 2 + 0.5, p.mean, p.std), atol=1e-5)
    levels = plain(data.pixels[rows]) / 2 + 0.5
    shown = evaluation.still(data, rows, p)
    assert torch.allclose(shown, augment.normalise(levels, p.mean, p.std), atol=1e-5)


def test_what_is_kept_is_the_models_own_encoding(places: Path, still: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = EncodedBatches(still.kept, still.data, still.learner.tokenizer, 4, 0)
    _, tokens = batches(0)
    first = still.data.records[int(batches.rows.chosen(0)[0])].caption
    ids = still.learner.tokenizer.encode(f" {first}")
    assert tokens[0, 1 : 1 + len(ids)].tolist() == ids
    monkeypatch.setattr(encoded, "Views", Plain)
    kept = encoded.encoded(still.model, "plain", still.learner.prompt, still.data, 1, places / "cache")
    rows = batches.rows.all
    source = torch.tensor([still.learner.prompt]).expand(len(rows), -1)
    wanted = still.model.encode(source, plain(still.data.pixels[rows]), decomposed=True)
    found = kept.output(np.zeros(len(rows), np.int64), np.arange(len(rows)))
    torch.testing.assert_close(found.hidden, wanted.hidden, atol=2e-3, rtol=2e-3)  # kept in float16
    torch.testing.assert_close(found.positions, wanted.positions[:1])


def test_encoding_goes_on_after_a_kill(places: Path, still: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "_CHUNK", 4)
    monkeypatch.setattr(encoded, "_NOTED", 2)
    arguments = (still.learner.prompt, still.data, 2, places / "cache")
    whole = encoded.encoded(still.model, "whole", *arguments)
    calls = 0

    def killed(*words: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 6:  # one for the prompt, five chunks
            raise KeyboardInterrupt
        return encode(*words)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(encoded, "encode", killed)
        encoded.encoded(still.model, "killed", *arguments)
    assert not list((places / "cache").glob("encoded-*-killed-*.npy"))
    calls = 6
    monkeypatch.setattr(encoded, "encode", killed)
    again = encoded.encoded(still.model, "killed", *arguments)
    assert calls == 6 + 1 + 6  # of ten chunks, the four that were noted are not made again
    assert np.array_equal(whole.pictures, again.pictures)
    encoded.encoded(still.model, "killed", *arguments)
    assert calls == 6 + 1 + 6 + 1


def test_only_the_decoder_moves(places: Path, still: Frozen, tmp_path: Path) -> None:
    train_arm(SHARED, 0, tmp_path / "run", still, 4, SETTINGS)
    before = load_file(places / "model" / "model.safetensors")
    after = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    begun = fresh(still.model, SHARED, 0).state_dict()
    for key, value in before.items():
        if key.startswith("encoder."):
            assert torch.equal(value.half(), after[key]), key
    moved = [k for k in begun if not torch.equal(begun[k].half(), after[f"decoder.{k}"])]
    assert {k.split(".")[1] for k in moved if k.startswith("layers.")} == {"0", "1"}
    with pytest.raises(UsageError, match="begun with"):
        train_arm(LAST, 0, tmp_path / "run", still, 4, SETTINGS)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_a_stopped_run_ends_as_an_undisturbed_one(
    arm: Arm, still: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_arm(arm, 0, tmp_path / "whole", still, 4, SETTINGS)
    seen: list[int] = []

    def stopping(self: EncodedBatches, step: int) -> Any:
        seen.append(step)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return batch_of(self, step)

    batch_of = EncodedBatches.__call__
    monkeypatch.setattr(EncodedBatches, "__call__", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_arm(arm, 0, tmp_path / "stopped", still, 4, SETTINGS)
    train_arm(arm, 0, tmp_path / "stopped", still, 4, SETTINGS)
    assert seen == [0, 1, 2, 3, 2, 3, 4, 5]
    one, other = (load_file(tmp_path / n / "model" / "model.safetensors") for n in ("whole", "stopped"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    logs = [
        [(line["step"], line["loss"]) for line in log_of(tmp_path / n) if "loss" in line] for n in ("whole", "stopped")
    ]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 3


@pytest.mark.skipif(not coco_metrics.available(), reason="pycocoevalcap is not installed")
def test_one_command(places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)  # words are cut without Java: quick
    card, out, drawn = tmp_path / "CARD.md", tmp_path / "e" / "found.json", tmp_path / "d" / "curves.svg"
    card.write_text("<!-- evidence: stickers-decoders -->\n<!-- /evidence -->\n", encoding="utf-8")
    words = [
        "--model", places / "model", "--cache", places / "cache", "--runs", tmp_path / "runs",
        "--out", out, "--card", card, "--chart", drawn,
        "--steps", 4, "--batch", 4, "--views", 2, "--seeds", 2,
    ]  # fmt: skip
    for _ in range(2):  # the second finds everything trained
        done = CliRunner().invoke(decoders.main, [str(word) for word in words])
        assert done.exit_code == 0, done.output
    assert '"step"' not in done.output
    found = json.loads(out.read_text(encoding="utf-8"))
    assert [(q["what"], len(q["by_seed"])) for q in found["questions"]] == [("one decoder layer", 2), ("full depth", 2)]
    assert [(r["name"], r["seed"], r["decoder_layers"]) for r in found["runs"]][1:4] == [
        ("all-exits", 1, 2),
        ("one-layer", 0, 1),
        ("one-layer", 1, 1),
    ]
    assert [row["decoder_depth"] for row in found["bundled"]] == [1, 2]
    text = card.read_text(encoding="utf-8")
    assert f"| full depth | {UNION} |" in text
    assert "4 steps of 4 pictures" in text and "2 augmented views" in text
    assert "all-exits 1" in drawn.read_text(encoding="utf-8")
