"""Weights of a model folder: tensors to a file of safetensors, and from there into a network."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from mue_edge.errors import InputFileError, missing_extra

try:
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file
except ImportError as problem:
    raise missing_extra("safetensors", "torch") from problem

WEIGHTS = "model.safetensors"
# BatchNorm's counter is of no use in inference and is not stored.
_NOT_STORED = ".num_batches_tracked"


def stored_weights(network: nn.Module) -> dict[str, Tensor]:
    """What `model.safetensors` holds of a network: every tensor by its name, once."""
    return {
        key: value.detach().contiguous() for key, value in network.state_dict().items() if not key.endswith(_NOT_STORED)
    }


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of safetensors. Raises InputFileError for one that is damaged."""
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as problem:
        raise InputFileError(f"{path} is not a safetensors file: {problem}") from problem


def fill(network: nn.Module, folder: Path) -> None:
    """The weights of a model folder, in float32, take the place of a network's own, which may be on `meta`.

    Raises InputFileError naming every missing, surplus and misshaped tensor.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise InputFileError(f"{folder} holds no {WEIGHTS}. Make a model folder with: mue-edge import")
    weights = read(path)
    if problems := differences(weights, stored_weights(network)):
        raise InputFileError(f"{path} does not fit its config.json: {'; '.join(problems)}")
    network.load_state_dict({key: value.float() for key, value in weights.items()}, strict=True, assign=True)


def differences(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """What is missing, surplus, misshaped or no floating point, sorted."""
    problems = [f"missing {key}" for key in expected.keys() - weights.keys()]
    problems += [f"surplus {printable(key)}" for key in weights.keys() - expected.keys()]
    for key in expected.keys() & weights.keys():
        shape, expected_shape = list(weights[key].shape), list(expected[key].shape)
        if shape != expected_shape:
            problems.append(f"{key} has shape {shape}, expected {expected_shape}")
        elif not weights[key].is_floating_point():
            problems.append(f"{key} has type {weights[key].dtype}, expected floating point")
    return sorted(problems)


def printable(key: str) -> str:
    """A name from a file, for messages."""
    return key if key.isprintable() and len(key) < 200 else ascii(key[:200])


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises OSError, of `path`, where the system refuses."""
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as problem:  # has the system's error number in its text only
        number = re.search(r"os error (\d+)", str(problem))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from problem
    path.chmod(0o644)  # safetensors writes for the owner only
