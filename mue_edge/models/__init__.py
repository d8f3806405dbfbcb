"""Model folders: `load` reads one and returns the network of the family that it names.

A model folder holds `config.json` (first key `family`), `model.safetensors`, and, where the
model has words, `tokenizer.json` and `prompts.json`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mue_edge.errors import InputFileError, UsageError
from mue_edge.models.family import Description, Family, Judging, Training
from mue_edge.reading import read_json

if TYPE_CHECKING:
    from torch import nn

    from mue_edge.inputs.tokens import Tokenizer
    from mue_edge.models.cut import CutRequest, Piece

# Name → the module that holds its FAMILY (`mue_edge.models.family`).
FAMILIES = {"ofa": "mue_edge.models.ofa.family"}


def family_named(name: object, where: object = "it") -> Family[Any]:
    """The family of that name; `where` names it. Raises InputFileError for one that is not known."""
    if name not in FAMILIES:
        raise InputFileError(f"{where} names the family {name!r}; known families: {', '.join(FAMILIES)}")
    family: Family[Any] = importlib.import_module(FAMILIES[str(name)]).FAMILY
    return family


def families() -> list[Family[Any]]:
    return [family_named(name) for name in FAMILIES]


def family_of(network: nn.Module) -> Family[Any]:
    """The family of a loaded network, by the attribute `family` of its class."""
    return family_named(getattr(type(network), "family", None), type(network).__name__)


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
    return _config(path)


def _config(path: Path) -> dict[str, Any]:
    config = read_json(path)
    family_named(config.get("family") if isinstance(config, dict) else None, path)
    return dict(config)


def load(folder: str | Path, decomposed: bool | None = None) -> nn.Module:
    """The network of a folder, in eval mode and float32; `decomposed` changes which encoder it has.

    Raises InputFileError for a folder, configuration or weights file that does not fit.
    """
    config = read_config(folder)
    family = family_named(config["family"])
    if decomposed is not None:
        config = _training(family).with_encoder(config, decomposed)
    network: nn.Module = family.load(Path(folder), config)
    return network


def write(network: nn.Module, folder: Path) -> None:
    """Weights (float32) and `config.json` into an existing folder."""
    from mue_edge.models import weights

    weights.save(weights.stored_weights(network), folder / weights.WEIGHTS)
    write_config(config_of(network), folder)


def write_config(config: Mapping[str, Any], folder: Path) -> None:
    """`config.json` into an existing folder."""
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def config_of(network: nn.Module) -> dict[str, Any]:
    """The content of `config.json` of a network."""
    family = family_of(network)
    return {"family": family.name} | family.config(network)


def describe(network: nn.Module) -> Description:
    """What a network reads and how deep it is."""
    family = family_of(network)
    return family.describe(family.config(network))


def describe_folder(folder: str | Path) -> Description:
    """`describe` of a model folder, by its configuration alone. Raises InputFileError."""
    config = read_config(folder)
    return family_named(config["family"]).describe(config)


def fresh(
    config: Path, vocabulary: Path, decomposed: bool | None = None
) -> tuple[nn.Module, Tokenizer, dict[str, Any]]:
    """`Training.fresh` of a `config.json`; `decomposed` changes which encoder it has.

    Raises InputFileError when they do not fit together, UsageError for a family that is not trained.
    """
    content = _config(config)
    training = _training(family_named(content["family"]))
    return training.fresh(content if decomposed is None else training.with_encoder(content, decomposed), vocabulary)


def training(network: nn.Module) -> Training[Any]:
    """How networks of this one's family learn captions. Raises UsageError where they do not."""
    return _training(family_of(network))


def judging(network: nn.Module) -> Judging[Any]:
    """How networks of this one's family answer statements. Raises UsageError where they do not."""
    family = family_of(network)
    return family.judging or _lacks(family, "judging", "judge statements here")


def whole(network: nn.Module, request: CutRequest) -> tuple[Piece, Piece, Piece]:
    """Its stem, encoder and decoder without a cut (`Family.whole`). Raises UsageError where there are none."""
    family = family_of(network)
    parts = family.whole or _lacks(family, "whole", "be run whole, so they have no rivals")
    pieces: tuple[Piece, Piece, Piece] = parts(network, request)
    return pieces


def _training(family: Family[Any]) -> Training[Any]:
    return family.training or _lacks(family, "training", "be trained or caption pictures in torch")


def _lacks(family: Family[Any], capability: str, what: str) -> Any:
    able = ", ".join(f.name for f in families() if getattr(f, capability) is not None)
    raise UsageError(f"models of the family {family.name!r} cannot {what}; families that can: {able or 'none'}")
