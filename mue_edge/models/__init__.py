"""Model folders: `load` reads one and returns the network of the family that it names.

A model folder holds `config.json` (first key `family`), `model.safetensors`, and, where the
model has words, `tokenizer.json` and `prompts.json`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mue_edge.errors import InputFileError
from mue_edge.reading import read_json

if TYPE_CHECKING:
    from mue_edge.models.ofa.model import Model

FAMILIES = {"ofa": "mue_edge.models.ofa.model"}


def read_config(folder: str | Path) -> dict[str, Any]:
    """`config.json` of a model folder, with the family checked.

    Raises InputFileError when the folder, the file or the family is not there.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise InputFileError(
            f"{folder} is not a model folder: it holds no config.json. "
            "Make one with: mue-edge import CHECKPOINT --out FOLDER"
        )
    config = read_json(path)
    family = config.get("family") if isinstance(config, dict) else None
    if family not in FAMILIES:
        raise InputFileError(f"{path} names the family {family!r}; known families: {', '.join(FAMILIES)}")
    return dict(config)


def load(folder: str | Path) -> Model:
    """The model of a folder, in eval mode and float32.

    Raises InputFileError for a folder, configuration or weights file that does not fit.
    """
    config = read_config(folder)
    model: Model = importlib.import_module(FAMILIES[config["family"]]).load(Path(folder), config)
    return model
