"""Trains DeeBERT's off-ramps (Xin et al. 2020) on a frozen model: at every decoder boundary a linear map of
the states, before the head that all share.

DeeBERT gives every off-ramp a classifier of its own. Over a vocabulary that is V·d weights each; a map of the
states is d² and, behind the shared head, can be any such classifier whose rows the head's own span (as the
tuned lens has it, Belrose et al. 2023). Its labels are the last layer's words, so that none need be given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mue_edge.calibrate.head_training import Trained, boundary, collected
from mue_edge.calibrate.teachers import Batch, Teacher

EPOCHS = 12
BATCH = 256
RATE = 1e-3


def train(
    teacher: Teacher[Batch], batches: Iterable[Batch], *, seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Trained:  # fmt: skip
    """Raises UsageError for too few batches."""
    rng = torch.Generator().manual_seed(seed)
    fitted, tested = collected(teacher, batches, rng, progress)
    teacher.model.requires_grad_(False)
    tensors: dict[str, Tensor] = {}
    found = []
    for depth in range(1, fitted.states.shape[1] - 1):
        ramp = _fit(teacher, fitted.states[:, depth], fitted.states[:, -1], rng)
        tensors |= {f"{depth}.{name}": value.detach() for name, value in ramp.state_dict().items()}
        with torch.no_grad():
            logits = teacher.logits(ramp(tested.states[:, depth]))
            same = logits.argmax(-1) == teacher.logits(tested.states[:, -1]).argmax(-1)
            sure = -torch.special.entr(torch.softmax(logits, -1)).sum(-1)
        found.append(boundary(depth, same, {"off-ramp's entropy": sure}))
    return Trained(tensors, "step", tuple(found))


def _fit(teacher: Teacher[Batch], states: Tensor, deep: Tensor, rng: torch.Generator) -> nn.Linear:
    """States [N, d] of a boundary and of the last layer. It begins as the identity: the shared head alone."""
    ramp = nn.Linear(states.shape[1], states.shape[1])
    nn.init.eye_(ramp.weight)
    nn.init.zeros_(ramp.bias)
    with torch.no_grad():
        wanted = teacher.logits(deep).argmax(-1)
    optimiser = torch.optim.AdamW(ramp.parameters(), RATE)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(states), generator=rng).split(BATCH):  # type: ignore[no-untyped-call]
            optimiser.zero_grad()
            F.cross_entropy(teacher.logits(ramp(states[rows])), wanted[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return ramp
