"""Importing: a checkpoint's family makes the content of a model folder, which is written here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mue_edge import models
from mue_edge.errors import InputFileError, UsageError
from mue_edge.files import atomic_folder
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.models.family import Description, Family
from mue_edge.models.weights import WEIGHTS, save


@dataclass(frozen=True)
class ImportRequest:
    """What to import; the fields are the command's options. Either `checkpoint` or `size` is given.

    `decomposed`: an encoder that reads picture and text apart, or not. `ema`: averaged weights.
    """

    checkpoint: Path | None = None
    config: Path | None = None
    tokenizer: Path | None = None
    task: str | None = None
    prompt: str | None = None
    image_size: int | None = None
    allow_pickle: bool = False
    decomposed: bool | None = None
    size: str | None = None
    seed: int = 0
    ema: bool = False
    family: str | None = None


@dataclass(frozen=True)
class ModelContent:
    """What a model folder will hold. `prompts`: task → what it asks
    (`mue_edge.export.prompts`); `what`: the network in a few words; notes are for the user."""

    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    what: str
    tokenizer: Tokenizer | None = None
    prompts: Mapping[str, Mapping[str, Any]] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Imported:
    """What was written. `task`: what its prompt asks; "" if it has none. `captions`: whether it reads one."""

    what: str
    description: Description
    parameters: int
    notes: tuple[str, ...]
    task: str
    captions: bool


def write(request: ImportRequest, out: str | Path) -> Imported:
    """Make the model folder `out`. On any error nothing is written, and an older folder stays.

    Raises InputFileError for a checkpoint or vocabulary that does not fit, UsageError for options
    that do not.
    """
    if (Path(out) / "config.json").exists():
        try:  # a Hugging Face folder also holds a config.json: only a model folder of ours may be replaced
            models.read_config(out)
        except InputFileError as problem:
            raise UsageError(f"{out} exists and is not a model folder of mue-edge; choose another --out") from problem
    family = _family(request)
    content = family.content(request)
    description = family.describe(content.config)
    with atomic_folder(out, "config.json") as work:
        save(content.weights, work / WEIGHTS)
        if content.tokenizer is not None:
            content.tokenizer.save(work / "tokenizer.json")
        if content.prompts is not None:
            prompts = json.dumps(content.prompts, indent=1) + "\n"
            (work / "prompts.json").write_text(prompts, encoding="utf-8")
        models.write_config({"family": family.name, **content.config}, work)
    task, prompt = next(iter((content.prompts or {}).items()), ("", {}))
    parameters = sum(value.numel() for value in content.weights.values())
    return Imported(content.what, description, parameters, content.notes, task, "with_caption" in prompt)


def _family(request: ImportRequest) -> Family[Any]:
    """The family that the request names, that has its size, or that alone recognises its checkpoint."""
    if request.family is not None and request.family not in models.FAMILIES:
        raise UsageError(f"--family {request.family}: known families are {', '.join(models.FAMILIES)}")
    families = models.families() if request.family is None else [models.family_named(request.family)]
    if request.checkpoint is None:
        able = [family for family in families if request.size in family.sizes]
        if not able:
            sizes = ", ".join(size for family in families for size in family.sizes)
            raise UsageError(f"--random {request.size}: known sizes are {sizes}")
        return able[0]
    if request.family is not None:
        return families[0]
    able = [family for family in families if family.recognises(request.checkpoint, request.config)]
    if len(able) == 1:
        return able[0]
    if able:
        names = ", ".join(family.name for family in able)
        raise UsageError(f"{request.checkpoint} may be of several families ({names}): name one by --family")
    known = "; ".join(f"{family.name}: {family.checkpoints}" for family in families)
    raise InputFileError(
        f"{request.checkpoint} is not recognised as a checkpoint. Known are, by family, {known}. "
        "If it is one of these: --family NAME"
    )
