"""Trains the gate before the encoder on a frozen model: from the stem's mean features, for every encoder
depth the probability that the answer is full depth's (after ECO-M2F, Yao et al. 2024; `rules/gate.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mue_edge import models
from mue_edge.calibrate.training.head_training import Trained, boundary, parted
from mue_edge.calibrate.training.teachers import Batch, Teacher
from mue_edge.errors import UsageError
from mue_edge.models.heads import HIDDEN

STEPS = 400
RATE = 3e-3
DECAY = 3e-2


def train(
    teacher: Teacher[Batch], batches: Iterable[Batch], *, seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Trained:  # fmt: skip
    """From batches that are each answered at every encoder depth.

    Raises UsageError for too few batches, or an encoder that cannot be left.
    """
    encoder = models.describe(teacher.model).encoder_layers
    if encoder < 2:
        raise UsageError("an encoder of one layer needs no gate")
    parts = []
    for batch in batches:
        parts.append((teacher.features(batch), teacher.kept(batch)))
        progress()
    held, shown = parted(parts)
    x, same = (torch.cat(column) for column in zip(*shown))
    tensors = _fit(x, same.float(), seed)
    tested, truth = (torch.cat(column) for column in zip(*held))
    told = logits(tensors, tested)
    boundaries = (boundary(i + 1, truth[:, i], {"head": told[:, i]}) for i in range(encoder - 1))
    return Trained(tensors, "picture", tuple(boundaries))


def _fit(x: Tensor, same: Tensor, seed: int) -> dict[str, Tensor]:
    """Of features [N, d] and labels [N, n]."""
    torch.manual_seed(seed)
    mean, scale = x.mean(0), x.std(0) + 1e-6
    z = (x - mean) / scale
    hidden, out = nn.Linear(x.shape[1], HIDDEN), nn.Linear(HIDDEN, same.shape[1])
    optimiser = torch.optim.AdamW([*hidden.parameters(), *out.parameters()], RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(out(torch.relu(hidden(z))), same).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    weight = hidden.weight.detach() / scale  # of the features as they are
    return {
        "hidden.weight": weight, "hidden.bias": hidden.bias.detach() - weight @ mean,
        "out.weight": out.weight.detach(), "out.bias": out.bias.detach(),
    }  # fmt: skip


def logits(t: dict[str, Tensor], x: Tensor) -> Tensor:
    """Of features [N, d]: what the stem puts out, [N, n]."""
    hidden = torch.relu(F.linear(x, t["hidden.weight"], t["hidden.bias"]))
    return F.linear(hidden, t["out.weight"], t["out.bias"])
