"""Models by name: the trained ones that come with the package and their pictures, and model folders."""

from __future__ import annotations

import importlib
from pathlib import Path

from mue_edge.errors import InputFileError, UsageError, command_line, suggestion
from mue_edge.reading import is_file

# Name → the application that ships it and offers `model_folder()`.
BUNDLED = {"stickers": "mue_edge.apps.stickers", "stickers-entail": "mue_edge.apps.entailment"}
DEFAULT = "stickers"
# What each is for.
TITLES = {
    "stickers": "captions emoji-like stickers",
    "stickers-entail": "says whether such a sticker shows what a statement says",
}


def resolve_model(name: str) -> Path:
    """The model folder `name`, or the bundled model of that name; a folder of that name goes first.

    Raises UsageError for a name that is neither, InputFileError for a folder that holds no model.
    """
    path = Path(name)
    if is_file(path / "config.json"):
        return path
    if name in BUNDLED:
        return bundled_model(name)
    if path.is_dir():
        raise InputFileError(
            f"{name} is a folder but no model: it holds no config.json. "
            "Make one with: " + command_line("import", "CHECKPOINT", "--out", name)
        )
    raise UsageError(
        f"no model {name!r}{suggestion(name, BUNDLED)}: neither a model folder nor a bundled model "
        f"({', '.join(BUNDLED)}). "
        "Make a model folder with: mue-edge import CHECKPOINT --out FOLDER"
    )


def bundled_model(name: str) -> Path:
    """Folder of a bundled model. Raises InputFileError when this installation lacks its files."""
    folder = Path(importlib.import_module(BUNDLED[name]).model_folder())
    if not (folder / "config.json").is_file():
        raise InputFileError(
            f"this installation lacks the files of the bundled model {name!r} ({folder}); install mue-edge "
            "again, or name a model folder made by: mue-edge import CHECKPOINT --out FOLDER"
        )
    return folder


def usage(task: str, bundle: str | Path) -> str:
    """The command that uses a bundle for its task, "caption" or "entail"."""
    return command_line(task, bundle, "PICTURE") + (' "STATEMENT"' if task == "entail" else "")


def calibration_pictures(name: str) -> tuple[Path, Path, list[str]]:
    """Of a bundled model: the data set to tune on, the one to certify on, and its training captions."""
    shipped = importlib.import_module(f"{BUNDLED[name]}.shipped")
    tune, certify = (shipped.FOLDER / split for split in shipped.SPLITS)
    return tune, certify, shipped.train_captions()


def calibration_pairs(name: str) -> list[tuple[Path, Path]]:
    """Of a bundled model that judges statements: table and pictures to tune on, then those to certify on."""
    shipped = importlib.import_module(f"{BUNDLED[name]}.shipped")
    return [(shipped.table(split), shipped.pictures(split)) for split in shipped.SPLITS]


def range_pictures(name: str) -> list[Path]:
    """Pictures to scan value ranges on: a bundled model's tuning pictures, none for other models."""
    return sorted(calibration_pictures(DEFAULT)[0].rglob("*.webp")) if _is_bundled(name) else []


def demo_pictures(name: str) -> dict[Path, str]:
    """A bundled model's demo pictures with their captions, none for other models."""
    return dict(importlib.import_module(BUNDLED[DEFAULT]).demo_pictures()) if _is_bundled(name) else {}


def _is_bundled(name: str) -> bool:
    """Whether it names a bundled model, of which all look at stickers, and no folder of that name."""
    return name in BUNDLED and not (Path(name) / "config.json").is_file()
