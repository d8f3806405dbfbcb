"""`configuration.json` of a ModelScope folder: what its preprocessors obey, under fairseq's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mue_edge.errors import InputFileError
from mue_edge.models.ofa.importing.contents import Stored
from mue_edge.reading import read_json

FILE = "configuration.json"
# Setting → its type and what ModelScope takes where the file does not say it.
_KNOWN: Mapping[str, tuple[type, Any]] = {
    "patch_image_size": (int, 480),
    "imagenet_default_mean_and_std": (bool, False),
    "prompt_type": (str, "none"),
    "prompt": (str, None),
    "answer2label": (str, None),
    "language": (str, "en"),
}


def with_configuration(stored: Stored, folder: Path) -> Stored:
    """The checkpoint with what its folder's configuration.json says, if any. Raises InputFileError."""
    path = folder / FILE
    if not path.is_file():
        return stored
    data = read_json(path)
    model = data.get("model") if isinstance(data, dict) else None
    if not isinstance(model, dict):
        raise InputFileError(f"{path} has no table `model`")
    settings: dict[str, Any] = {}
    for name, (kind, default) in _KNOWN.items():
        value = settings[name] = model.get(name, default)
        if value is not default and type(value) is not kind:
            raise InputFileError(f"{path}: model.{name} = {value!r} is no {kind.__name__}")
    if settings["prompt"] is not None:
        settings["prompt"] = _named_places(settings["prompt"])
    if settings["answer2label"] is not None:
        settings["answers"] = _answers(folder, settings["answer2label"])
    notes, language = stored.notes, settings["language"]
    if language != "en":
        notes += (f"the model's language is {language!r}, and only English tokenizers are known here",)
    task = str(data.get("task") or stored.task)
    return replace(stored, settings=stored.settings | settings, task=task, notes=notes)


def _named_places(prompt: str) -> str:
    """ModelScope fills one place with the statement, or two with a caption and the statement."""
    names = ["{hypothesis}"] if prompt.count("{}") == 1 else ["{caption}", "{hypothesis}"]
    for name in names:
        prompt = prompt.replace("{}", name, 1)
    return prompt


def _answers(folder: Path, name: str) -> dict[str, str]:
    """Answer → label."""
    if Path(name).name != name:
        raise InputFileError(f"{folder / FILE}: answer2label names {name!r}, a path outside of the folder")
    data = read_json(folder / name)
    if not isinstance(data, dict) or not data or not all(isinstance(v, str) for v in data.values()):
        raise InputFileError(f"{folder / name} does not map answers to labels")
    return dict(data)
