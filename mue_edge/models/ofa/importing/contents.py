"""What one checkpoint file holds: its weights, and the settings that it carries.

A pickle may hold anything beside the weights. It is judged by what is needed: the table of weights,
and each setting at the moment when it is used. All else may be what it likes, for nothing is run.
"""

from __future__ import annotations

import re
from collections import UserDict
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from torch import Tensor

from mue_edge.errors import InputFileError, UsageError
from mue_edge.models import torch_files
from mue_edge.models.pickle_values import kind
from mue_edge.models.stored_tensors import StoredTensor
from mue_edge.models.torch_files import TorchFile
from mue_edge.models.weights import printable
from mue_edge.models.weights import read as read_safetensors

# The task's part of a fairseq configuration that a model needs.
_TASK_KEYS = (
    *("patch_image_size", "num_bins", "code_dict_size", "add_caption"),
    *("imagenet_default_mean_and_std", "prompt_type"),
)
# The embedding, and the names under which a state dict holds a tied one again.
EMBEDDING = "encoder.embed_tokens.weight"
ALIASES = ("decoder.embed_tokens.weight", "decoder.output_projection.weight")
_TABLES = ("model", "state_dict", "model_state_dict")
_PREFIXES = ("module.", "model.", "_orig_mod.")  # of wrappers: torch's for several devices, its compiler
_SHARD = re.compile(r"-shard\d+\.pt$")
_PLAIN_SIZE, _PLAIN_BITS = 1000, 64
_NOT_RUN = "nothing in the file was run"


@dataclass(frozen=True)
class Refused:
    """A setting that is no plain value, and the error of its use."""

    message: str


class CheckpointSettings(UserDict[str, Any]):
    """Settings; the use of one that is no plain value raises InputFileError."""

    def __getitem__(self, name: str) -> Any:
        return _usable(self.data[name])


@dataclass(frozen=True)
class Stored:
    """A checkpoint: weights under the names of the file, settings of model and task in one table, empty for
    weights alone.

    `tokenizer`: a folder that came with the weights. `task`: fairseq's name of it, or "".
    """

    source: Path
    weights: dict[str, Tensor]
    settings: CheckpointSettings
    task: str = ""
    tokenizer: Path | None = None
    notes: tuple[str, ...] = ()


def read(path: Path, *, allow_pickle: bool, ema: bool = False) -> Stored:
    """The contents of a .safetensors file, or of a pickle (any other name).

    `ema`: the averaged weights of a fairseq file, the plain ones only where it has no average. Raises
    InputFileError for a file that is missing, damaged or holds no table of tensors; UsageError for a
    pickle without `allow_pickle`.
    """
    if not path.is_file():
        raise InputFileError(f"{path} does not exist, or is not a file")
    if path.suffix == ".safetensors":
        if ema:
            raise _no_average(path)
        return Stored(path, read_safetensors(path), CheckpointSettings())
    if not allow_pickle:
        raise UsageError(
            f"{path} is a pickle: such files can run code in programs that load them. Add --allow-pickle "
            "to read it here: weights and plain values are read, and nothing in the file is run"
        )
    file = torch_files.read(path)
    content = file.content
    if not isinstance(content, dict):
        raise InputFileError(f"{path} holds a {kind(content)}; a checkpoint holds a table of tensors ({_NOT_RUN})")
    name = next((n for n in _TABLES if n in content and not isinstance(content[n], StoredTensor)), "")
    table = content[name] if name else content
    flat = isinstance(table, dict) and any("flat_param" in key for key in table if isinstance(key, str))
    if flat or _SHARD.search(path.name):  # fairseq's shards hold slices of flat vectors
        raise InputFileError(
            f"{path} is one shard of several. Join them where fairseq is: models, cfg, task = "
            "fairseq.checkpoint_utils.load_model_ensemble_and_task([FILE], num_shards=N); then torch.save("
            "{'model': models[0].state_dict(), 'cfg': OmegaConf.to_container(cfg)}, 'whole.pt')"
        )
    weights = _tensors(file, name, table)
    settings, task = _fairseq_settings(path, content) if name == "model" else ({}, "")
    extra = content.get("extra_state")
    notes: tuple[str, ...] = ()
    if ema:
        weights = _averaged(file, weights, extra)
        notes = ("the averaged (EMA) weights are imported",)
    elif isinstance(extra, dict) and extra.get("ema") is not None:
        notes = ("the file also holds averaged (EMA) weights; --ema imports them instead of the plain ones",)
    return Stored(path, weights, CheckpointSettings(settings), task, notes=notes)


def without_prefix(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The weights without a wrapper's name that all keys begin with, and a note if there was one."""
    prefix = ""
    while more := [p for p in _PREFIXES if weights and all(key.startswith(prefix + p) for key in weights)]:
        prefix += more[0]
    if not prefix:
        return weights, []
    note = f"all names in the file begin with {prefix[:80]!r}; it was taken off"
    return {key[len(prefix) :]: value for key, value in weights.items()}, [note]


def _averaged(file: TorchFile, plain: dict[str, Tensor], extra: Any) -> dict[str, Tensor]:
    """Averages where the file has them, in float32 where it has those too; the rest from `plain`."""
    if extra is not None and not isinstance(extra, dict):
        raise InputFileError(f"{file.path}: extra_state is a {kind(extra)}, not a table ({_NOT_RUN})")
    weights, _ = without_prefix(plain)
    ema, exact = (
        without_prefix(_tensors(file, f"extra_state.{name}", extra[name]))[0]
        if extra is not None and extra.get(name) is not None
        else {}
        for name in ("ema", "ema_fp32_params")
    )
    if not ema:
        raise _no_average(file.path)
    # There may be more among the exact ones, which the average itself was made with.
    exact = {key: value for key, value in exact.items() if key in weights or key in ema}
    table = weights.get(EMBEDDING)
    last = exact if EMBEDDING in exact else ema
    older = set()
    if table is not None and EMBEDDING in last:
        # A table of parameters holds a tied embedding once: its copies in the plain weights are older.
        copies = (key for key in ALIASES if key in weights and key not in last)
        older = {key for key in copies if weights[key].shape == table.shape and weights[key].equal(table)}
    return {key: value for key, value in (weights | ema | exact).items() if key not in older}


def _no_average(path: Path) -> InputFileError:
    return InputFileError(f"{path} holds no averaged (EMA) weights; import it without --ema")


def _fairseq_settings(path: Path, content: dict[Any, Any]) -> tuple[dict[str, Any], str]:
    """Settings and task of `args` (which wins, as in fairseq) or `cfg`, each a Namespace or a table."""
    if content.get("args") is not None:
        args = _table(path, "args", content["args"])
        return args, _name(args.get("task"))
    if content.get("cfg") is None:
        return {}, ""
    cfg = _table(path, "cfg", content["cfg"], of_tables=True)
    model, task = (_table(path, f"cfg.{part}", cfg.get(part) or {}) for part in ("model", "task"))
    model |= {key: task[key] for key in _TASK_KEYS if task.get(key) is not None}
    return model, _name(task.get("_name"))


def _name(value: Any) -> str:
    return str(_usable(value) or "")


def _usable(value: Any) -> Any:
    if isinstance(value, Refused):
        raise InputFileError(value.message)
    return value


def _table(path: Path, name: str, value: Any, *, of_tables: bool = False) -> dict[str, Any]:
    """A table by name; what is no plain value in it is Refused, unless it is a table of tables."""
    if not isinstance(value, dict):
        raise InputFileError(f"{path}: {name} is neither a Namespace nor a table, but a {kind(value)}")
    if odd := [kind(key) for key in value if not isinstance(key, str)]:
        raise InputFileError(f"{path}: {name} has a name that is no text, but a {odd[0]}")
    if of_tables:
        return dict(value)
    return {key: _plain(path, f"{name}.{key}", part) for key, part in value.items()}


def _plain(path: Path, name: str, value: Any) -> Any:
    """`value`, or Refused: settings are short, and messages may show them."""
    start = f"{path}: {printable(name)} is"
    todo, size = [value], 0  # of all parts together, for messages may show a whole list
    while todo:
        part, size = todo.pop(), size + 1
        if not isinstance(part, (int, float, str, dict, list, tuple, NoneType)):
            return Refused(f"{start} or contains a {kind(part)}, which is no plain value ({_NOT_RUN})")
        large = isinstance(part, int) and part.bit_length() > _PLAIN_BITS
        large = large or (isinstance(part, (str, dict, list, tuple)) and len(part) > _PLAIN_SIZE)
        if large or size > _PLAIN_SIZE:
            return Refused(f"{start} too large for a setting")
        if isinstance(part, str):
            size += len(part)
        elif isinstance(part, dict):
            todo += [*part, *part.values()]
        elif isinstance(part, (list, tuple)):
            todo += part
    return value


def _tensors(file: TorchFile, name: str, table: Any) -> dict[str, Tensor]:
    where = f"{file.path}: {name}: " if name else f"{file.path}: "
    if not isinstance(table, dict):
        raise InputFileError(f"{file.path}: {name} is a {kind(table)}, not a table of tensors ({_NOT_RUN})")
    weights = {}
    for key, value in table.items():
        if not isinstance(key, str):
            raise InputFileError(f"{where}a name is a {kind(key)} ({_NOT_RUN})")
        if not isinstance(value, StoredTensor):
            raise InputFileError(f"{where}{printable(key)} is a {kind(value)}, not a tensor ({_NOT_RUN})")
        try:
            weights[key] = file.tensor(value)
        except InputFileError as problem:
            raise InputFileError(f"{where}{printable(key)} {problem}") from problem
    return weights
