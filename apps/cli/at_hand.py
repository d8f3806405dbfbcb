"""What a user has at hand: bundled models, bundles and model folders, by their manifests and configurations.

No large file is read, and a damaged folder is told with what is wrong with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mue_edge import models
from mue_edge.apps.cli import catalogue, default_bundle
from mue_edge.apps.cli.default_bundle import has
from mue_edge.bundle.folder import checked_manifest
from mue_edge.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES
from mue_edge.errors import EnvironmentLacksError, InputFileError, command_line
from mue_edge.export import prompts

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
# A checkpoint of the Hugging Face layout has one of these beside its config.json.
CHECKPOINTS = (WEIGHTS, "pytorch_model.bin")


@dataclass(frozen=True)
class BundledModel:
    """A model that comes with the package."""

    name: str
    title: str
    bytes: int
    use: str


@dataclass(frozen=True)
class FoundBundle:
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
class FoundModel:
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
    """What was found."""

    bundled: tuple[BundledModel, ...]
    bundles: tuple[FoundBundle, ...]
    models: tuple[FoundModel, ...]


def survey(folders: Iterable[Path]) -> AtHand:
    """What the folders are or hold, each place once, and the bundles in the user's cache."""
    places = [place for folder in folders for place in _inside(folder)]
    with suppress(EnvironmentLacksError):  # of a user without a home
        places += _inside(default_bundle.bundles())[1:]
    every = {place.absolute(): place for place in places if not _foreign(place)}.values()
    return AtHand(
        tuple(map(_bundled, catalogue.BUNDLED)),
        tuple(_bundle(place) for place in every if has(place, MANIFEST)),
        tuple(_model(place) for place in every if default_bundle.is_model(place)),
    )


def _inside(folder: Path) -> list[Path]:
    """A folder and the folders in it, by name, but hidden ones."""
    try:
        return [folder, *sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.is_dir())]
    except OSError:  # such as one that may not be read
        return [folder]


def _bundled(name: str) -> BundledModel:
    folder = catalogue.bundled_model(name)
    if prompts.task_of(folder) == prompts.CAPTION:
        use = f"mue-edge caption {name} PICTURE"
    else:
        use = f'mue-edge entail {name} PICTURE "STATEMENT"'
    return BundledModel(name, catalogue.TITLES[name], (folder / WEIGHTS).stat().st_size, use)


def _bundle(place: Path) -> FoundBundle:
    try:
        m = checked_manifest(place)
    except (InputFileError, OSError) as problem:
        return FoundBundle(str(place), problem=str(problem))
    size = sum(entry.bytes for entry in m.files.values())
    picture = f"{m.preprocess.height}x{m.preprocess.width}"
    return FoundBundle(
        str(place), m.name, m.task, m.target, m.precision, picture, size, m.chosen, m.evidence.rung
    )


def _model(place: Path) -> FoundModel:
    try:
        config = models.read_config(place)
    except (InputFileError, OSError) as problem:
        advice = (
            f"; if it is a checkpoint: {command_line('import', place, '--out', 'FOLDER')}"
            if _checkpoint(place)
            else ""
        )
        return FoundModel(str(place), problem=f"{problem}{advice}")
    problems: list[str] = []
    parameters, size, tasks = 0, 0, tuple[str, ...]()
    try:
        parameters, size = _weights(place / WEIGHTS)
    except (InputFileError, OSError) as problem:
        problems.append(str(problem))
    try:
        tasks = prompts.tasks(place)
    except InputFileError as problem:
        problems.append(str(problem))
    layers, picture = "", ""
    try:
        described = models.describe_folder(place)
    except InputFileError as problem:
        problems.append(str(problem))
    else:
        layers = f"encoder {described.encoder_layers}, decoder {described.decoder_layers}"
        picture = described.picture
    return FoundModel(
        str(place), str(config["family"]), layers, parameters, size, picture, tasks, "; ".join(problems)
    )


def _foreign(place: Path) -> bool:
    """Whether a folder's manifest or configuration is sound, but another program's."""
    for name, key in ((MANIFEST, "plan_hash"), (CONFIG, "family")):
        try:
            if (place / name).stat().st_size <= MAX_MANIFEST_BYTES:
                data = json.loads((place / name).read_text(encoding="utf-8"))
                ours = isinstance(data, dict) and key in data
                return not ours and not _checkpoint(place)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError):
            return False
    return False


def _checkpoint(place: Path) -> bool:
    """Whether weights stand beside a configuration."""
    return any(has(place, name) for name in CHECKPOINTS)


def _weights(path: Path) -> tuple[int, int]:
    """How many numbers a safetensors file holds, by its header, and its bytes. Raises InputFileError for one
    whose length is not what its header says."""
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
        raise InputFileError(
            f"{path} is cut short or too long: {size} bytes, its header says {8 + length + end}"
        )
    return numbers, size
