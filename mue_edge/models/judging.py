"""What a family of models provides to train heads of one that judges statements: doors to its functions."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from mue_edge.models.captioning import Steps

Ids = Sequence[Sequence[int]]


def _of(model: nn.Module) -> ModuleType:
    return importlib.import_module(type(model).__module__.rsplit(".", 1)[0] + ".judging")


def steps(
    model: nn.Module, answers: Sequence[int], pixels: Tensor, sources: Ids, fed: Ids, rng: torch.Generator
) -> Steps:
    """The words in which statements about pictures [B, 3, H, W] are answered, at drawn encoder depths.

    answers: their ids; sources: of the text around each statement; fed: to the decoder before it answers."""
    found: Steps = _of(model).steps(model, answers, pixels, sources, fed, rng)
    return found


def by_image_depth(
    model: nn.Module, answers: Sequence[int], pixels: Tensor, sources: Ids, fed: Ids
) -> Tensor:
    """Places of the answers [E, B] when the picture's encoder is left after 1, 2, … E layers."""
    found: Tensor = _of(model).by_image_depth(model, answers, pixels, sources, fed)
    return found


def logits(model: nn.Module, answers: Sequence[int], states: Tensor) -> Tensor:
    """[..., answers] that the decoder's head gives to states [..., d]."""
    found: Tensor = _of(model).logits(model, answers, states)
    return found
