"""Trains DeeCap's networks (Fei et al. 2022) on a frozen model: at every decoder boundary one that imitates
the last layer's state, and a gate that mixes it with the present one (`rules/deecap.py`).

The loss is the imitation's error, in units of the last state's spread, and the cross-entropy of the last
layer's word under the mix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mue_edge.calibrate.training import mapped_training
from mue_edge.calibrate.training.head_training import Trained
from mue_edge.calibrate.training.teachers import Batch, Teacher


class _Networks(nn.Module):
    """As `models.heads` names the tensors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.mix = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)  # begins as no change

    def imagined(self, y: Tensor) -> Tensor:
        """What the last layer is imagined to make of states."""
        changed: Tensor = y + self.outer(torch.tanh(self.inner(y)))
        return changed

    def forward(self, y: Tensor) -> Tensor:
        """Mixed states."""
        share = torch.sigmoid(self.mix(y))
        return share * y + (1 - share) * self.imagined(y)


def train(
    teacher: Teacher[Batch], batches: Iterable[Batch], *, seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Trained:  # fmt: skip
    """Raises UsageError for too few batches."""
    return mapped_training.train(
        teacher, batches, _networks, "mix", seed=seed, progress=progress, error=_imitation
    )


def _networks(width: int, rng: torch.Generator) -> _Networks:
    torch.manual_seed(int(torch.randint(1 << 30, (), generator=rng)))
    return _Networks(width)


def _imitation(network: nn.Module, states: Tensor, deep: Tensor, spread: Tensor) -> Tensor:
    assert isinstance(network, _Networks)
    return F.mse_loss(network.imagined(states), deep) / spread
