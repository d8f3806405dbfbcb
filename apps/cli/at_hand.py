"""What a user has at hand: bundled models, bundles and model folders, by their manifests and configurations.

No large file is read, and a damaged folder is listed with what is wrong with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mue_edge import models
from mue_edge.apps.cli import catalogue, default_bundle
from mue_edge.bundle.folder import checked_manifest
from mue_edge.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES
from mue_edge.errors import EnvironmentLacksError, InputFileError, command_line
from mue_edge.export import prompts
from mue_edge.reading import is_file

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
# A checkpoint of the Hugging Face layout has one of these beside its config.json.
CHECKPOINTS = (WEIGHTS, "pytorch_model.bin")
T = TypeVar("T")


@dataclass(frozen=True)
class BundledModel:
    """A model that comes with the package."""

    name: str
    title: str
    bytes: int
    use: str


@dataclass(frozen=True)
class ListedBundle:
    """A bundle by its manifest; of a damaged one the path and what is wrong."""

    path: str
    name: str = ""
    task: str = ""
    target: str = ""
    precision: str = ""
    picture: str = ""
    bytes: int = 0
    policy: str = ""
    evidence: str = ""
    problem: str = ""


@dataclass(frozen=True)
class ListedModel:
    """A model folder by its configuration; of a damaged one the path, what could be read and what is wrong.

    layers: by stack; parameters: numbers stored in its weights."""

    path: str
    family: str = ""
    layers: str = ""
    parameters: int = 0
    bytes: int = 0
    picture: str = ""
    tasks: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class AtHand:
    """What there is."""

    bundled: tuple[BundledModel, ...]
    bundles: tuple[ListedBundle, ...]
    models: tuple[ListedModel, ...]


def survey(folders: Iterable[Path]) -> AtHand:
    """What the folders are or hold, each once, and the bundles in the user's cache."""
    candidates = [path for folder in folders for path in _inside(folder)]
    with suppress(EnvironmentLacksError):  # of a user without a home
        candidates += _inside(default_bundle.bundles())[1:]
    every = {path.absolute(): path for path in candidates if not _is_foreign(path)}.values()
    return AtHand(
        tuple(map(_bundled, catalogue.BUNDLED)),
        tuple(_bundle(path) for path in every if is_file(path / MANIFEST)),
        tuple(_model(path) for path in every if default_bundle.is_model(path)),
    )


def _inside(folder: Path) -> list[Path]:
    """A folder and the folders in it, by name, but hidden ones."""
    try:
        return [folder, *sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.is_dir())]
    except OSError:  # such as one that may not be read
        return [folder]


def _bundled(name: str) -> BundledModel:
    folder = catalogue.bundled_model(name)
    use = catalogue.usage(prompts.task_of(folder), name)
    return BundledModel(name, catalogue.TITLES[name], (folder / WEIGHTS).stat().st_size, use)


def _bundle(folder: Path) -> ListedBundle:
    try:
        m = checked_manifest(folder)
    except (InputFileError, OSError) as problem:
        return ListedBundle(str(folder), problem=str(problem))
    size = sum(entry.bytes for entry in m.files.values())
    picture = f"{m.preprocess.height}x{m.preprocess.width}"
    return ListedBundle(str(folder), m.name, m.task, m.target, m.precision, picture, size, m.chosen, m.evidence.rung)


def _model(folder: Path) -> ListedModel:
    try:
        config = models.read_config(folder)
    except (InputFileError, OSError) as problem:
        retry = f"; if it is a checkpoint: {command_line('import', folder, '--out', 'FOLDER')}"
        return ListedModel(str(folder), problem=f"{problem}{retry if _is_checkpoint(folder) else ''}")
    problems: list[str] = []

    def attempt(read: Callable[[Path], T], default: T) -> T:
        try:
            return read(folder)
        except (InputFileError, OSError) as problem:
            problems.append(str(problem))
            return default

    parameters, size = attempt(_weights, (0, 0))
    tasks: tuple[str, ...] = attempt(prompts.tasks, ())
    described = attempt(models.describe_folder, None)
    layers, picture = "", ""
    if described is not None:
        layers = f"encoder {described.encoder_layers}, decoder {described.decoder_layers}"
        picture = described.picture
    family = str(config["family"])
    return ListedModel(str(folder), family, layers, parameters, size, picture, tasks, "; ".join(problems))


def _is_foreign(folder: Path) -> bool:
    """Whether a folder's manifest or configuration is sound, but another program's."""
    for name, key in ((MANIFEST, "plan_hash"), (CONFIG, "family")):
        try:
            if (folder / name).stat().st_size <= MAX_MANIFEST_BYTES:
                data = json.loads((folder / name).read_text(encoding="utf-8"))
                ours = isinstance(data, dict) and key in data
                return not ours and not _is_checkpoint(folder)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError):
            return False
    return False


def _is_checkpoint(folder: Path) -> bool:
    return any(is_file(folder / name) for name in CHECKPOINTS)


def _weights(folder: Path) -> tuple[int, int]:
    """How many numbers its safetensors file holds, by the header, and the file's bytes. Raises InputFileError
    for one whose length is not what its header says."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise InputFileError(f"{path} is missing")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size, MAX_HEADER_BYTES):
            raise InputFileError(f"{path} is no safetensors file: its header would have {length} bytes")
        try:
            header: dict[str, dict[str, Any]] = json.loads(file.read(length))
            tensors = [entry for name, entry in header.items() if name != "__metadata__"]
            end = max((entry["data_offsets"][1] for entry in tensors), default=0)
            numbers = sum(math.prod(entry["shape"]) for entry in tensors)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as problem:
            raise InputFileError(f"{path} is no safetensors file: its header cannot be read") from problem
    if 8 + length + end != size:
        raise InputFileError(f"{path} is cut short or too long: {size} bytes, its header says {8 + length + end}")
    return numbers, size
