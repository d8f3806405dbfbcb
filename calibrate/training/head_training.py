"""Trains the heads of CALM's classifier (Schuster et al. 2022) on a frozen model: for each decoder boundary a
vector and a bias whose sigmoid says how sure the arg-max there is.

Pictures are captioned at full decoder depth, each batch at a drawn encoder depth, since policies shorten that
too. CALM learns the event "arg-max here = the last layer's". Where captions were trained on it hardly ever
fails, so that a head would learn from very few steps; the margin between the two likeliest words, which says
the same, is to be had of every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from mue_edge.calibrate.policies.signals import area
from mue_edge.calibrate.training.teachers import Batch, Teacher
from mue_edge.errors import UsageError
from mue_edge.models.heads import Steps

RIDGE = 1e-2  # of the squared weights, on features of mean 0 and spread 1
HELD_OUT = 0.2  # of the batches: to measure the AUC on
P = TypeVar("P")


@dataclass(frozen=True)
class Boundary:
    """A head on `cases` (steps, or pictures) that it was not fitted to: the share for which leaving there
    keeps the answer, and how well the head and other signs tell them apart: AUC by name (None: all alike)."""

    depth: int
    cases: int
    kept: float
    auc: dict[str, float | None]


@dataclass(frozen=True)
class Trained:
    """A kind's tensors (`mue_edge.models.heads`), what a case is, and each boundary held out."""

    tensors: dict[str, Tensor]
    cases: str
    boundaries: tuple[Boundary, ...]


def collected(
    teacher: Teacher[Batch], batches: Iterable[Batch], rng: torch.Generator, progress: Callable[[], None]
) -> tuple[Steps, Steps]:
    """Steps of the model's own answers, to fit to and to test on. Raises UsageError for too few batches."""
    parts = []
    for batch in batches:
        parts.append(teacher.steps(batch, rng))
        progress()
    held, shown = parted(parts)
    return Steps.joined(shown), Steps.joined(held)


def train(
    teacher: Teacher[Batch], batches: Iterable[Batch], *, seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Trained:  # fmt: skip
    """Heads of every decoder boundary.

    Raises UsageError for batches that are too few to hold some out.
    """
    rng = torch.Generator().manual_seed(seed)
    fitted, tested = collected(teacher, batches, rng, progress)
    heads: dict[str, Tensor] = {}
    found = []
    for depth in range(1, fitted.states.shape[1] - 1):
        weight, bias = _fit(fitted.states[:, depth], fitted.margin[:, depth - 1])
        heads |= {f"{depth}.weight": weight, f"{depth}.bias": bias}
        logit = tested.states[:, depth] @ weight + bias
        alike = F.cosine_similarity(tested.states[:, depth - 1], tested.states[:, depth], dim=-1)
        signs = {"head": logit, "similarity": alike, "margin": tested.margin[:, depth - 1]}
        found.append(boundary(depth, tested.same[:, depth - 1], signs))
    return Trained(heads, "step", tuple(found))


def parted(parts: Sequence[P]) -> tuple[Sequence[P], Sequence[P]]:
    """The batches held out, and those to fit. Raises UsageError if they are too few."""
    held = max(1, round(HELD_OUT * len(parts)))
    if len(parts) <= held:
        raise UsageError(
            "heads need at least two batches of pictures; give more pictures or a smaller --batch"
        )
    return parts[:held], parts[held:]


def boundary(depth: int, same: Tensor, signs: Mapping[str, Tensor]) -> Boundary:
    """Of cases held out: whether leaving after `depth` layers keeps the answer, and signs of it."""
    aucs = {name: _auc(sign, same) for name, sign in signs.items()}
    return Boundary(depth, len(same), float(same.float().mean()), aucs)


def _fit(states: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    """Logistic regression of margins [N] on states [N, d]: weight [d], bias []."""
    mean, scale = states.mean(0), states.std(0) + 1e-6
    z = (states - mean) / scale
    weight = torch.zeros(states.shape[1], requires_grad=True)
    bias = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        fit = F.binary_cross_entropy_with_logits(z @ weight + bias, margin)
        total: Tensor = fit + RIDGE * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    plain = weight.detach() / scale
    return plain, bias.detach() - plain @ mean


def _auc(sign: Tensor, same: Tensor) -> float | None:
    return area((-sign[same]).tolist(), (-sign[~same]).tolist())
