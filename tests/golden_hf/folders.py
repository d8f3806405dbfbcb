"""Checkpoint folders as the Hugging Face fork and ModelScope write them, and what their own code says.

`hf`, `modelscope`, `modelscope-entangled`: `config.json` (and `configuration.json`) as written there,
`shapes.json` of the state dict, `check.json` of the made weights, `ref.safetensors` from the original code.
Weights follow from `rules.json` and the tensors' names, as those of `tests/golden`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mue_edge.models.ofa.network import positions
from tests.golden import weights as golden

FOLDER = Path(__file__).parent
VARIANTS = ("hf", "modelscope", "modelscope-entangled")


@cache
def read(name: str) -> Any:
    """A JSON file of this folder."""
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@cache
def state(variant: str) -> dict[str, Tensor]:
    """The state dict in the original order: floats by the rule, the tied tables one tensor."""
    shapes, config, rules = read(f"{variant}/shapes.json"), read(f"{variant}/config.json"), read("rules.json")
    made = {key: golden.tensor(key, tuple(shape), rules) for key, shape in shapes["float32"].items()}
    made |= {key: torch.zeros((), dtype=torch.long) for key in shapes["int64_zero"]}
    made |= {alias: made[key] for alias, key in shapes["alias"].items()}
    side = config["image_bucket_size"]
    for key, shape in shapes["int64_bucket"].items():
        if key.endswith("token_rp_bucket"):
            made[key] = positions.token_buckets(shape[0], config["token_bucket_size"])
        elif key.endswith("image_rp_bucket"):
            made[key] = torch.zeros(shape, dtype=torch.long)  # follows from the configuration, never read
        else:
            grid = config["code_image_size"] // 8
            ids = positions.image_position_ids(grid, grid, side).tolist()
            made[key] = torch.tensor([0, *ids, *[1024] * (shape[0] - 1 - len(ids))])
    return {key: made[key] for key in shapes["order"]}


def weights_sha256(variant: str) -> str:
    """Hash over names and little-endian bytes of the float tensors in sorted order."""
    digest = hashlib.sha256()
    for key in sorted(read(f"{variant}/shapes.json")["float32"]):
        digest.update(key.encode())
        digest.update(state(variant)[key].numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def images(variant: str) -> Tensor:
    """Pixels [2, 3, H, W], normalised already."""
    return golden.images(read("rules.json")["salt"], tuple(read(f"{variant}/check.json")["patch_images"]))


def images_sha256(variant: str) -> str:
    return hashlib.sha256(images(variant).numpy().astype("<f4").tobytes()).hexdigest()


def reference(variant: str) -> dict[str, Tensor]:
    """What the original code made of them."""
    return dict(load_file(FOLDER / variant / "ref.safetensors"))


def write(variant: str, folder: Path, *, pickled: bool = True, half: bool = False) -> Path:
    """The folder that a user has."""
    folder.mkdir()
    for name in ("config.json", "configuration.json"):
        if (FOLDER / variant / name).is_file():
            shutil.copyfile(FOLDER / variant / name, folder / name)
    made = {k: v.half() if half and v.is_floating_point() else v for k, v in state(variant).items()}
    if pickled:
        torch.save(made, folder / "pytorch_model.bin")
    else:
        tied = read(f"{variant}/shapes.json")["alias"]
        save_file({k: v.contiguous() for k, v in made.items() if k not in tied}, folder / "model.safetensors")
    return folder
