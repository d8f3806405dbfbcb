"""Checkpoints as they lie about: fairseq's `.pt`, a Hugging Face folder, shards, a raw weights file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mue_edge.errors import InputFileError, UsageError, command_line
from mue_edge.models.ofa.importing import contents, modelscope
from mue_edge.models.ofa.importing.contents import CheckpointSettings, Stored
from mue_edge.models.ofa.importing.tokenizer import HUGGING_FACE
from mue_edge.reading import read_json

_INDEX = ".index.json"
# Hugging Face's names, the preferred first.
_NAMES = ("model.safetensors", f"model.safetensors{_INDEX}", "pytorch_model.bin", f"pytorch_model.bin{_INDEX}")
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_NAMED_AT_MOST = 12


def read(path: Path, config: Path | None = None, *, allow_pickle: bool = False, ema: bool = False) -> Stored:
    """The checkpoint at `path`, a file or folder; settings of `config` (JSON) win over its own.

    `ema`: averaged weights instead of the plain ones. Raises InputFileError for a checkpoint that is
    missing, damaged or holds other things where weights or settings should be; UsageError for a pickle
    without `allow_pickle`.
    """
    file = _in_folder(path) if path.is_dir() else path
    if file.name.endswith(_INDEX):
        stored = _shards(file, allow_pickle, ema)
    else:
        stored = contents.read(file, allow_pickle=allow_pickle, ema=ema)
    weights, notes = contents.without_prefix(stored.weights)
    has_words = path.is_dir() and all((path / name).is_file() for name in HUGGING_FACE)
    words = path if has_words else None
    stored = replace(stored, source=path, weights=weights, tokenizer=words, notes=(*stored.notes, *notes))
    beside = file.with_name("config.json")
    if not stored.settings and beside.is_file() and (config is None or path.is_dir()):
        stored = replace(stored, settings=CheckpointSettings(_json_settings(beside)))
        stored = modelscope.with_configuration(stored, file.parent)
    if config is not None:
        stored.settings.update(_json_settings(config))
    if not stored.settings:
        raise InputFileError(
            f"{path}: it holds weights without a configuration; give one with --config FILE (fairseq's model "
            "settings as JSON, or a Hugging Face config.json)"
        )
    return stored


def _in_folder(folder: Path) -> Path:
    """The weights of a folder: under Hugging Face's names, else the only file that may hold some."""
    for name in _NAMES:
        if (folder / name).is_file():
            return folder / name
    files = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    if not files:
        raise InputFileError(
            f"{folder} holds no checkpoint. A Hugging Face OFA folder has config.json and model.safetensors "
            "or pytorch_model.bin (or their .index.json with all shards); fairseq writes one .pt file"
        )
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:_NAMED_AT_MOST])
        more = " and more" if len(files) > _NAMED_AT_MOST else ""
        raise InputFileError(
            f"{folder} holds several checkpoints ({names}{more}); name one: "
            + command_line("import", files[0], "--out", "FOLDER")
        )
    return files[0]


def _shards(index: Path, allow_pickle: bool, ema: bool) -> Stored:
    """The tensors of all files that an index names, each where the index says."""
    data = read_json(index)
    files = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise InputFileError(f"{index} has no weight_map that names a file for every tensor")
    names = sorted(set(files.values()))
    if away := [name for name in names if name in ("", ".", "..") or set(name) & set("/\\:\0")]:
        raise InputFileError(f"{index} names {away[0][:200]!a}, which is not a file beside it")
    if gone := [name for name in names if not index.with_name(name).is_file()]:
        raise InputFileError(f"{index.parent} lacks {', '.join(gone)}, which {index.name} names")
    weights: dict[str, Tensor] = {}
    for name in names:
        shard = index.with_name(name)
        part = contents.read(shard, allow_pickle=allow_pickle, ema=ema).weights
        expected = {key for key, file in files.items() if file == name}
        if different := sorted(expected ^ part.keys()):
            verb = "lacks" if different[0] in expected else "holds, against the index,"
            raise InputFileError(f"{shard} {verb} {different[0][:200]!a}; download it and {index.name} again")
        weights |= part
    return Stored(index, weights, CheckpointSettings())


def _json_settings(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict):
        raise InputFileError(f"{path} is not a table of settings")
    if data.get("family") is not None:
        raise UsageError(f"{path} belongs to a model folder of mue-edge, which needs no import")
    return data
