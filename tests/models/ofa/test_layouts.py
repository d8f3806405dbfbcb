"""How checkpoints lie about: wrapped, prefixed, in shards, alone in a folder, behind links."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mue_edge.errors import InputFileError
from mue_edge.models.ofa.importing.files import read
from tests.models.ofa import checkpoints
from tests.models.ofa.importing.test_checkpoint import check_same, run
from tests.models.ofa.tiny import make


def config_beside(folder: Path) -> Path:
    """Only the configuration of a Hugging Face folder."""
    checkpoints.hugging_face(folder, make())
    (folder / "model.safetensors").unlink()
    return folder


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_wrapped_weights(tmp_path: Path, wrapper: str) -> None:
    folder = config_beside(tmp_path / "a")
    torch.save({wrapper: checkpoints.state(make()), "epoch": 3}, folder / "x.pt")
    run(folder / "x.pt", "--out", tmp_path / "out", "--allow-pickle")
    check_same(tmp_path / "out", make())
    (tmp_path / "bare.pt").write_bytes((folder / "x.pt").read_bytes())
    with pytest.raises(InputFileError, match="--config"):
        read(tmp_path / "bare.pt", allow_pickle=True)
    run(tmp_path / "bare.pt", "--config", folder / "config.json", "--out", tmp_path / "b", "--allow-pickle")
    check_same(tmp_path / "b", make())


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module.model.", "module._orig_mod."])
def test_a_prefix_of_all_names(tmp_path: Path, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    weights = {prefix + key: value for key, value in checkpoints.state(make()).items()}
    path = checkpoints.fairseq(tmp_path / "a.pt", make(), weights=weights)
    run(path, "--out", tmp_path / "out", "--allow-pickle")
    check_same(tmp_path / "out", make())
    assert f"begin with '{prefix}'" in capsys.readouterr().err
    weights["encoder.y"] = torch.zeros(1)
    checkpoints.fairseq(path, make(), weights=weights)
    run(path, "--out", tmp_path / "out", "--allow-pickle", expect=4)


def shards(folder: Path, *, pickled: bool, changes: dict[str, str] | None = None) -> Path:
    """A Hugging Face folder in three shards; `changes` to the index."""
    checkpoints.hugging_face(folder, make(), pickled=pickled)
    stem = "pytorch_model" if pickled else "model"
    suffix = ".bin" if pickled else ".safetensors"
    whole = folder / f"{stem}{suffix}"
    found = read(folder, allow_pickle=True).weights
    places: dict[str, str] = {}
    for part in range(3):
        name = f"{stem}-0000{part + 1}-of-00003{suffix}"
        held: dict[str, Tensor] = {key: found[key].clone() for key in sorted(found)[part::3]}
        places |= dict.fromkeys(held, name)
        torch.save(held, folder / name) if pickled else save_file(held, folder / name)
    whole.unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": places | (changes or {})}
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("pickled", [False, True])
def test_shards(tmp_path: Path, pickled: bool) -> None:
    folder = shards(tmp_path / "a", pickled=pickled)
    options = ["--allow-pickle"] if pickled else []
    run(folder, "--out", tmp_path / "out", *options)
    check_same(tmp_path / "out", make())
    run(next(folder.glob("*.index.json")), "--out", tmp_path / "b", *options)
    check_same(tmp_path / "b", make())
    if pickled:
        run(folder, "--out", tmp_path / "c", expect=2)


@pytest.mark.parametrize("pickled", [False, True])
def test_bad_shards(tmp_path: Path, pickled: bool) -> None:
    folder = shards(tmp_path / "a", pickled=pickled)
    index = next(folder.glob("*.index.json"))
    good = json.loads(index.read_text())
    places: dict[str, Any] = good["weight_map"]
    (tmp_path / "outside.safetensors").write_bytes(b"x")
    key, last = next(iter(places)), sorted(set(places.values()))[-1]
    for changes, said in (
        ({key: "../outside.safetensors"}, "not a file beside it"),
        ({key: str(tmp_path / "outside.safetensors")}, "not a file beside it"),
        ({key: ".."}, "not a file beside it"),
        ({key: "a\\b"}, "not a file beside it"),
        ({key: "absent.bin"}, "lacks absent.bin"),
        ({key: 5}, "no weight_map"),
        ({key: last}, key),
        ({"encoder.new": last}, r"lacks 'encoder\.new'"),
    ):
        index.write_text(json.dumps({"weight_map": places | changes}))
        with pytest.raises(InputFileError, match=said):
            read(folder, allow_pickle=True)
    index.write_text(json.dumps({"weight_map": {k: v for k, v in places.items() if k != key}}))
    with pytest.raises(InputFileError, match=f"holds, against the index, '{key}'"):
        read(folder, allow_pickle=True)
    for text in ("[]", "{}", '{"weight_map": []}', "x"):
        index.write_text(text)
        with pytest.raises(InputFileError, match="index"):
            read(folder, allow_pickle=True)
    index.write_text(json.dumps(good))
    (folder / last).unlink()
    with pytest.raises(InputFileError, match=f"lacks {last}"):
        read(folder, allow_pickle=True)


@pytest.mark.parametrize("with_config", [False, True])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_a_folder_with_one_file(tmp_path: Path, suffix: str, with_config: bool) -> None:
    folder = config_beside(tmp_path / "a") if with_config else tmp_path / "a"
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text("x")
    source = make(attn_scale_factor=1.5)
    checkpoints.fairseq(folder / f"caption{suffix}", source)
    run(folder, "--out", tmp_path / "out", "--allow-pickle")
    # The file's own settings, not those of a configuration that lies beside it.
    assert check_same(tmp_path / "out", source).config == source.config


def test_a_folder_with_one_safetensors_file(tmp_path: Path) -> None:
    folder = checkpoints.hugging_face(tmp_path / "a", make())
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    run(folder, "--out", tmp_path / "out")
    check_same(tmp_path / "out", make())


def test_a_folder_with_several_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for name in ("checkpoint_best.pt", "checkpoint_last.pt"):
        checkpoints.fairseq(folder / name, make())
    run(folder, "--out", tmp_path / "out", "--allow-pickle", expect=4)
    said = capsys.readouterr().err
    assert "checkpoint_best.pt, checkpoint_last.pt" in said
    assert f"mue-edge import {folder / 'checkpoint_best.pt'} --out" in said
    run(folder / "checkpoint_best.pt", "--out", tmp_path / "out", "--allow-pickle")


def test_a_cache_of_links(tmp_path: Path) -> None:
    blobs, folder = checkpoints.hugging_face(tmp_path / "blobs", make()), tmp_path / "snapshots"
    folder.mkdir()
    for number, file in enumerate(sorted(blobs.iterdir())):
        (folder / file.name).symlink_to(Path("..") / "blobs" / str(number))
        file.rename(blobs / str(number))
    run(folder, "--out", tmp_path / "out")
    check_same(tmp_path / "out", make())
    whole = shards(tmp_path / "shards", pickled=False)
    for file in list(whole.iterdir()):
        file.rename(blobs / file.name)
        file.symlink_to(blobs / file.name)
    run(whole, "--out", tmp_path / "b")
    check_same(tmp_path / "b", make())


def test_one_shard_of_fairseq(tmp_path: Path) -> None:
    path = checkpoints.fairseq(tmp_path / "checkpoint_best-shard0.pt", make())
    for weights, name in (({}, path.name), ({"encoder.flat_param_0": torch.zeros(3)}, "a.pt")):
        torch.save({"model": weights, "cfg": {}, "fsdp_metadata": {}}, tmp_path / name)
        with pytest.raises(InputFileError, match=r"one shard of several.*num_shards"):
            read(tmp_path / name, allow_pickle=True)
