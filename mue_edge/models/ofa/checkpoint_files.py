"""Checkpoint files as they lie about: fairseq's `.pt`, a Hugging Face folder, a raw safetensors file.

Nothing is judged here but safety: a pickle is read only if the user says so, and then through
torch's restricted unpickler, which is allowed one class more (fairseq's configuration is one).
"""

from __future__ import annotations

import re
import warnings
import zipfile
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError, missing_extra
from mue_edge.tokens import read_json

# Before these, torch's restricted unpickler could be made to run code (CVE-2025-32434, CVE-2026-24747).
SAFE_TORCH = (2, 10)
# The task's part of a fairseq configuration that a model needs.
_TASK_KEYS = (
    "patch_image_size",
    "num_bins",
    "code_dict_size",
    "add_caption",
    "imagenet_default_mean_and_std",
)
_MISSING_CONFIG = (
    "it holds weights without a configuration; give one with --config FILE (fairseq's model settings as "
    "JSON, or a Hugging Face config.json)"
)


@dataclass(frozen=True)
class Stored:
    """What was found: weights under the names of the file, settings of model and task in one table.

    `tokenizer`: a folder that came with the weights. `task`: fairseq's name of it, or "".
    """

    source: Path
    weights: dict[str, Tensor]
    settings: dict[str, Any]
    task: str = ""
    tokenizer: Path | None = None
    notes: tuple[str, ...] = ()


def read(path: Path, config: Path | None = None, *, allow_pickle: bool = False) -> Stored:
    """The checkpoint at `path`; settings of `config` (JSON) win over the file's own.

    Raises InputFileError for a file that is missing, damaged or holds more than plain weights;
    UsageError for a pickle without `allow_pickle`; EnvironmentLacksError for a torch that is too old.
    """
    if path.is_dir():
        return _read_folder(path, config, allow_pickle)
    if not path.is_file():
        raise InputFileError(f"{path} does not exist")
    if path.suffix == ".safetensors":
        weights = _safetensors(path)
        return Stored(path, weights, _settings_beside(path, config))
    loaded = _pickle(path, allow_pickle)
    if not isinstance(loaded, dict):
        raise InputFileError(f"{path} holds a {type(loaded).__name__}; a checkpoint holds a table of tensors")
    if "model" not in loaded or isinstance(loaded["model"], Tensor):
        return Stored(path, _tensors(path, loaded), _settings_beside(path, config))
    settings, task = _fairseq_settings(path, loaded)
    if config is not None:
        settings |= _json_settings(config)
    if not settings:
        raise InputFileError(f"{path}: {_MISSING_CONFIG}")
    notes = []
    if isinstance(loaded.get("extra_state"), dict) and loaded["extra_state"].get("ema"):
        notes.append("the file also holds averaged (EMA) weights; the plain ones are imported")
    return Stored(path, _tensors(path, loaded["model"]), settings, task, notes=tuple(notes))


def _read_folder(folder: Path, config: Path | None, allow_pickle: bool) -> Stored:
    config = config or folder / "config.json"
    weights = next(
        (folder / n for n in ("model.safetensors", "pytorch_model.bin") if (folder / n).is_file()), None
    )
    if weights is None or not config.is_file():
        raise InputFileError(
            f"{folder} is not a Hugging Face OFA folder: it needs config.json and model.safetensors or "
            "pytorch_model.bin; for other checkpoints name the file itself"
        )
    settings = _json_settings(config)
    if weights.suffix == ".bin":
        loaded = _pickle(weights, allow_pickle)
        tensors = _tensors(weights, loaded)
    else:
        tensors = _safetensors(weights)
    has_words = all((folder / name).is_file() for name in ("vocab.json", "merges.txt"))
    return Stored(folder, tensors, settings, tokenizer=folder if has_words else None)


def _settings_beside(path: Path, config: Path | None) -> dict[str, Any]:
    """For weights without a configuration of their own."""
    config = config or path.with_name("config.json")
    if not config.is_file():
        raise InputFileError(f"{path}: {_MISSING_CONFIG}")
    return _json_settings(config)


def _json_settings(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict):
        raise InputFileError(f"{path} is not a table of settings")
    if data.get("family") is not None:
        raise UsageError(f"{path} belongs to a model folder of mue-edge, which needs no import")
    return data


def _fairseq_settings(path: Path, loaded: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Settings and task of `args` (which wins, as in fairseq) or `cfg`, each a Namespace or a table."""
    if loaded.get("args") is not None:
        table = _table(path, "args", loaded["args"])
        return table, str(table.get("task") or "")
    if loaded.get("cfg") is None:
        return {}, ""
    cfg = _table(path, "cfg", loaded["cfg"])
    model = _table(path, "cfg.model", cfg.get("model") or {})
    task = _table(path, "cfg.task", cfg.get("task") or {})
    return model | {key: task[key] for key in _TASK_KEYS if task.get(key) is not None}, str(
        task.get("_name") or ""
    )


def _table(path: Path, name: str, value: Any) -> dict[str, Any]:
    table = vars(value) if isinstance(value, Namespace) else value
    if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
        raise InputFileError(f"{path}: {name} is neither a Namespace nor a table")
    return dict(table)


def _tensors(path: Path, table: Any) -> dict[str, Tensor]:
    if not isinstance(table, dict):
        raise InputFileError(f"{path} holds no table of tensors")
    for key, value in table.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputFileError(f"{path}: entry {key!r} is a {type(value).__name__}, not a named tensor")
    return dict(table)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as problem:
        raise missing_extra("safetensors", "torch") from problem
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as problem:
        raise InputFileError(f"{path} is not a safetensors file: {problem}") from problem


def _pickle(path: Path, allowed: bool) -> Any:
    if not allowed:
        raise UsageError(
            f"{path} is a pickle: such files can be made to run code. If you trust where it comes from, "
            "add --allow-pickle (even then only tensors and plain values are read); safetensors files "
            "need no trust"
        )
    check_torch(torch.__version__)
    try:
        with torch.serialization.safe_globals([Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a strange pickle ends in an error or is sound
            # Mapped, so that an optimiser's state costs no memory.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as problem:  # a damaged or hostile pickle can fail in any way
        found = re.search(r"(?:GLOBAL|class) ([\w.]+)", str(problem))
        what = f"holds {found[1]}, which is no weight" if found else "cannot be read as weights"
        raise InputFileError(
            f"{path} {what}; it was refused and nothing in it was run. Save the entries 'model' and 'cfg' "
            "(or 'args') to a new file on the machine where it was made"
        ) from problem


def check_torch(version: str) -> None:
    """Raise EnvironmentLacksError for a torch whose restricted unpickler is not safe."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < SAFE_TORCH:
        raise EnvironmentLacksError(
            f"torch {version} reads pickles unsafely (CVE-2025-32434, CVE-2026-24747); "
            f"install torch {'.'.join(map(str, SAFE_TORCH))} or later, or convert the file to safetensors"
        )
