"""Trains what the vocabulary's head reads in the place of a boundary's states: at every decoder boundary of a
frozen model a network that maps them, so that the head's word there is the last layer's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mue_edge.calibrate.training.head_training import Trained, boundary, collected
from mue_edge.calibrate.training.teachers import Batch, Teacher

EPOCHS = 12
BATCH = 256
RATE = 1e-3
# Width of the states, and randomness for weights → a network [N, d] → [N, d], named as in `models.heads`.
Make = Callable[[int, torch.Generator], nn.Module]


class Error(Protocol):
    """What a network is to learn beside the word, of states [N, d] and the last layer's [N, d]; `spread`: the
    variance of those."""

    def __call__(self, network: nn.Module, states: Tensor, deep: Tensor, spread: Tensor) -> Tensor: ...


def train(
    teacher: Teacher[Batch], batches: Iterable[Batch], make: Make, name: str, *, seed: int,
    progress: Callable[[], None], error: Error | None = None,
) -> Trained:  # fmt: skip
    """`name` of what is mapped, in the table of how well its entropy foretells. Words are of the model's own
    answers.

    Raises UsageError for too few batches.
    """
    rng = torch.Generator().manual_seed(seed)
    fitted, tested = collected(teacher, batches, rng, progress)
    teacher.model.requires_grad_(False)
    tensors: dict[str, Tensor] = {}
    found = []
    for depth in range(1, fitted.states.shape[1] - 1):
        network = make(fitted.states.shape[-1], rng)
        _fit(teacher, network, fitted.states[:, depth], fitted.states[:, -1], rng, error)
        tensors |= {f"{depth}.{part}": value.detach() for part, value in network.state_dict().items()}
        with torch.no_grad():
            logits = teacher.logits(network(tested.states[:, depth]))
            same = logits.argmax(-1) == teacher.logits(tested.states[:, -1]).argmax(-1)
            sure = -torch.special.entr(torch.softmax(logits, -1)).sum(-1)  # words that are ruled out: 0
        found.append(boundary(depth, same, {f"{name}'s entropy": sure}))
    return Trained(tensors, "step", tuple(found))


def _fit(
    teacher: Teacher[Batch], network: nn.Module, states: Tensor, deep: Tensor, rng: torch.Generator,
    error: Error | None,
) -> None:  # fmt: skip
    """States [N, d] of a boundary and of the last layer."""
    spread = deep.var(0).mean()
    with torch.no_grad():
        wanted = teacher.logits(deep).argmax(-1)
    optimiser = torch.optim.AdamW(network.parameters(), RATE)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(states), generator=rng).split(BATCH):  # type: ignore[no-untyped-call]
            loss = F.cross_entropy(teacher.logits(network(states[rows])), wanted[rows])
            if error is not None:
                loss = loss + error(network, states[rows], deep[rows], spread)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
