"""What a family of models provides to be trained on captions and measured: doors to its functions.

Training and evaluation know these words and no family.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mue_edge.bundle import Preprocess
from mue_edge.errors import InputFileError
from mue_edge.models import FAMILIES, read_config
from mue_edge.models.heads import Heads
from mue_edge.tokens import Tokenizer


def _of(model: nn.Module) -> ModuleType:
    return importlib.import_module(type(model).__module__.rsplit(".", 1)[0] + ".captioning")


def fresh(config: dict[str, Any], vocabulary: Path) -> tuple[nn.Module, Tokenizer, dict[str, Any]]:
    """An untrained model of a `config.json`'s content, its tokenizer, and the content of `prompts.json`.

    vocabulary: a tokenizer.json, or a folder in the family's own format.
    Raises InputFileError when the two do not fit together.
    """
    family = config.get("family")
    if family not in FAMILIES:
        raise InputFileError(f"the configuration names the family {family!r}; known: {', '.join(FAMILIES)}")
    package = FAMILIES[family].rsplit(".", 1)[0]
    made: tuple[nn.Module, Tokenizer, dict[str, Any]]
    made = importlib.import_module(f"{package}.captioning").fresh(config, vocabulary)
    return made


def load(folder: Path, decomposed: bool | None = None) -> nn.Module:
    """The model of a folder in eval mode; `decomposed` changes which encoder it has."""
    config = read_config(folder)
    if decomposed is not None:
        config["decomposed"] = decomposed
    model: nn.Module = importlib.import_module(FAMILIES[config["family"]]).load(folder, config)
    return model


def preprocess(model: nn.Module) -> Preprocess:
    """How pictures become the model's input; they are square."""
    found: Preprocess = _of(model).preprocess(model)
    return found


def depths(model: nn.Module) -> tuple[int, int]:
    """Layers of the picture's encoder and of the decoder."""
    found: tuple[int, int] = _of(model).depths(model)
    return found


def longest_caption(model: nn.Module) -> int:
    """Most tokens of a caption that the decoder has positions for, bos and eos not counted."""
    length: int = _of(model).longest_caption(model)
    return length


def loss(
    model: nn.Module, prompt: Sequence[int], pixels: Tensor, tokens: Tensor, *,
    shallow: float = 0.0, rng: torch.Generator | None = None,
    label_smoothing: float = 0.0, over_layers: Literal["sum", "mean"] = "sum",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Layer-wise loss, in nats and summed over words, and each decoder layer's part [N], detached.

    Pictures [B, 3, H, W] as `preprocess` says, under one prompt; tokens [B, L + 1] (bos … eos, padding).
    `shallow`: with this probability (drawn from `rng`) the encoder ends at depths drawn evenly.
    """
    found: tuple[Tensor, Tensor] = _of(model).loss(
        model, prompt, pixels, tokens,
        shallow=shallow, rng=rng, label_smoothing=label_smoothing, over_layers=over_layers,
    )  # fmt: skip
    return found


def greedy(
    model: nn.Module, prompt: Sequence[int], pixels: Tensor, *, max_length: int = 24,
    image_depth: int | None = None, decoder_depth: int | None = None,
) -> list[list[int]]:  # fmt: skip
    """Greedy captions (ids without bos and eos) of [B, 3, H, W] at fixed depths (default: all layers)."""
    ids: list[list[int]] = _of(model).greedy(
        model, prompt, pixels, max_length=max_length, image_depth=image_depth, decoder_depth=decoder_depth
    )
    return ids


def greedy_by_depth(
    model: nn.Module, prompt: Sequence[int], pixels: Tensor, cells: Sequence[tuple[int, int]],
    *, max_length: int = 24,
) -> dict[tuple[int, int], list[list[int]]]:  # fmt: skip
    """`greedy` at each pair (encoder layers, decoder layers), the pictures encoded once for all."""
    found: dict[tuple[int, int], list[list[int]]]
    found = _of(model).greedy_by_depth(model, prompt, pixels, cells, max_length=max_length)
    return found


@dataclass(frozen=True)
class Steps:
    """N words of captions: states [N, L + 1, d] after 0, 1, … L decoder layers; of each layer but the last
    [N, L − 1] by how much its best word is likelier than its second, and whether it is the last layer's."""

    states: Tensor
    margin: Tensor
    same: Tensor

    @staticmethod
    def joined(parts: Sequence[Steps]) -> Steps:
        return Steps(*(torch.cat([getattr(p, name) for p in parts]) for name in ("states", "margin", "same")))


def steps(model: nn.Module, prompt: Sequence[int], pixels: Tensor, rng: torch.Generator) -> Steps:
    """The words of greedy captions of [B, 3, H, W], at full decoder depth and a drawn encoder depth."""
    found: Steps = _of(model).steps(model, prompt, pixels, rng, min(24, longest_caption(model)))
    return found


def heads(model: nn.Module) -> Heads:
    """The heads for exit tests that the model came with."""
    found: Heads = _of(model).heads(model)
    return found


def logits(model: nn.Module, states: Tensor) -> Tensor:
    """[..., V] that the decoder's head gives to states [..., d]; −inf of what is no word of a caption."""
    found: Tensor = _of(model).logits(model, states)
    return found


def features(model: nn.Module, pixels: Tensor) -> Tensor:
    """[B, d]: means over the picture's tokens before the first encoder layer."""
    found: Tensor = _of(model).features(model, pixels)
    return found


def see(model: nn.Module, pixels: Tensor) -> None:
    """Pass pictures through what looks at them, for BatchNorm's statistics."""
    _of(model).see(model, pixels)


def write(model: nn.Module, folder: Path) -> None:
    """Weights (float32) and `config.json` into an existing folder."""
    _of(model).write(model, folder)
