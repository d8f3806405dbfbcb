"""Trains DeeBERT's off-ramps (Xin et al. 2020) on a frozen model: at every decoder boundary a linear map of
the states, before the head that all share.

DeeBERT gives every off-ramp a classifier of its own. Over a vocabulary that is V·d weights each; a map of the
states is d² and, behind the shared head, can be any such classifier whose rows the head's own span (as the
tuned lens has it, Belrose et al. 2023). Its labels are the last layer's words, so that none need be given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from mue_edge.calibrate.training import mapped_training
from mue_edge.calibrate.training.head_training import Trained
from mue_edge.calibrate.training.teachers import Batch, Teacher


def train(
    teacher: Teacher[Batch], batches: Iterable[Batch], *, seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Trained:  # fmt: skip
    """Raises UsageError for too few batches."""
    return mapped_training.train(teacher, batches, _identity, "off-ramp", seed=seed, progress=progress)


def _identity(width: int, _rng: torch.Generator) -> nn.Linear:
    """The shared head alone, to begin with."""
    ramp = nn.Linear(width, width)
    nn.init.eye_(ramp.weight)
    nn.init.zeros_(ramp.bias)
    return ramp
