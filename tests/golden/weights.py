"""Weights and images for the golden vectors, made by rule: none are stored.

A tensor's values come from a SplitMix64 stream that is seeded with the hash of its name; the first
rule of `rules.json` whose pattern is found in the name sets offset and scale.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

FOLDER = Path(__file__).parent
STEP = 0x9E3779B97F4A7C15


def units(name: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Multiples of 2^-23 in [-1, 1), the stream of `name` in row-major order."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    with np.errstate(over="ignore"):
        z = np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * np.uint64(STEP) + np.uint64(seed)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0).reshape(shape)


@cache
def read(name: str) -> Any:
    """A JSON file of this folder."""
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@cache
def vectors(name: str) -> dict[str, torch.Tensor]:
    """A file of expected tensors."""
    return dict(load_file(FOLDER / name))


def tensor(name: str, shape: tuple[int, ...], rules: Any = None) -> torch.Tensor:
    """The float32 tensor of a parameter, by the rules of this folder or others."""
    rules = rules or read("rules.json")
    _, offset, scale, per_fan_in = next(rule for rule in rules["rules"] if re.search(rule[0], name))
    if per_fan_in:
        scale = scale / math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy((offset + scale * units(rules["salt"] + name, shape)).astype(np.float32))


@cache
def weights() -> dict[str, torch.Tensor]:
    """All float tensors of the reference's state dict, tied ones once."""
    return {name: tensor(name, tuple(shape)) for name, shape in read("shapes.json")["float32"].items()}


@cache
def images(salt: str = "", shape: tuple[int, ...] = (2, 3, 96, 96)) -> torch.Tensor:
    """Pixels [2, 3, H, W]: fine noise on coarse blocks."""
    salt, coarsely = salt or read("rules.json")["salt"], (*shape[:2], shape[2] // 16, shape[3] // 16)
    fine = units(salt + "in.patch_images.fine", shape)
    coarse = units(salt + "in.patch_images.coarse", coarsely).repeat(16, 2).repeat(16, 3)
    return torch.from_numpy((0.5 * coarse + 0.5 * fine).astype(np.float32))


def weights_sha256() -> str:
    """Hash over names and little-endian bytes in sorted order."""
    digest = hashlib.sha256()
    for name, value in sorted(weights().items()):
        digest.update(name.encode())
        digest.update(value.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def images_sha256() -> str:
    return hashlib.sha256(images().numpy().astype("<f4").tobytes()).hexdigest()
