"""Heads for exit tests, in a model folder beside the weights: a vector and a bias a decoder boundary.

`heads.safetensors` holds `confidence.DEPTH.weight` [d] and `confidence.DEPTH.bias` [] for every depth from 1
to one below the last; it is not there until `mue-edge train --heads` has made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mue_edge.errors import InputFileError, missing_extra

FILE = "heads.safetensors"
# Decoder layers run → weight [d] and bias [].
Heads = dict[int, tuple[Tensor, Tensor]]


def read(folder: Path, layers: int, width: int) -> Heads:
    """The heads of a folder, none if it has no such file. Raises InputFileError for one that does not fit."""
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as problem:
        raise missing_extra("safetensors", "torch") from problem
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as problem:
        raise InputFileError(f"{path} is not a safetensors file: {problem}") from problem
    wanted = {_key(depth, part): shape for depth in range(1, layers) for part, shape in _parts(width)}
    if {key: tuple(value.shape) for key, value in found.items()} != wanted:
        raise InputFileError(
            f"{path} does not hold a vector of {width} and a bias for each of the decoder layers 1 to "
            f"{layers - 1}; make it again with: mue-edge train --heads calm-classifier"
        )
    if not all(bool(torch.isfinite(value).all()) for value in found.values()):
        raise InputFileError(f"{path} holds values that are not finite")
    return {
        depth: (found[_key(depth, "weight")].float(), found[_key(depth, "bias")].float())
        for depth in range(1, layers)
    }


def write(folder: Path, heads: Mapping[int, tuple[Tensor, Tensor]]) -> None:
    """Into an existing model folder."""
    from safetensors.torch import save_file

    both = [(depth, zip(("weight", "bias"), pair)) for depth, pair in sorted(heads.items())]
    tensors = {_key(depth, part): value.contiguous() for depth, pair in both for part, value in pair}
    save_file(tensors, folder / FILE, metadata={"format": "pt"})
    (folder / FILE).chmod(0o644)  # safetensors writes for the owner only


def _key(depth: int, part: str) -> str:
    return f"confidence.{depth}.{part}"


def _parts(width: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return (("weight", (width,)), ("bias", ()))
