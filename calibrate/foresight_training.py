"""Trains DeeCap's networks (Fei et al. 2022) on a frozen model: at every decoder boundary one that imitates
the last layer's state, and a gate that mixes it with the present one (`rules/deecap.py`).

Words are those of the model's own answers. The loss is the imitation's error, in units of the last state's
spread, and the cross-entropy of the last layer's word under the mix.
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


class _Networks(nn.Module):
    """As `models.heads` names the tensors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.mix = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)  # begins as no change

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Imitated and mixed states."""
        imagined = y + self.outer(torch.tanh(self.inner(y)))
        share = torch.sigmoid(self.mix(y))
        return imagined, share * y + (1 - share) * imagined


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
        made = _fit(teacher, fitted.states[:, depth], fitted.states[:, -1], rng)
        tensors |= {f"{depth}.{name}": value.detach() for name, value in made.state_dict().items()}
        with torch.no_grad():
            logits = teacher.logits(made(tested.states[:, depth])[1])
            same = logits.argmax(-1) == teacher.logits(tested.states[:, -1]).argmax(-1)
            sure = -torch.special.entr(torch.softmax(logits, -1)).sum(-1)  # words that are ruled out: 0
        found.append(boundary(depth, same, {"mix's entropy": sure}))
    return Trained(tensors, "step", tuple(found))


def _fit(teacher: Teacher[Batch], states: Tensor, deep: Tensor, rng: torch.Generator) -> _Networks:
    """States [N, d] of a boundary and of the last layer."""
    torch.manual_seed(int(torch.randint(1 << 30, (), generator=rng)))
    networks = _Networks(states.shape[1])
    spread = deep.var(0).mean()
    with torch.no_grad():
        wanted = teacher.logits(deep).argmax(-1)
    optimiser = torch.optim.AdamW(networks.parameters(), RATE)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(states), generator=rng).split(BATCH):  # type: ignore[no-untyped-call]
            imagined, mixed = networks(states[rows])
            error = F.mse_loss(imagined, deep[rows]) / spread
            loss = error + F.cross_entropy(teacher.logits(mixed), wanted[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return networks
