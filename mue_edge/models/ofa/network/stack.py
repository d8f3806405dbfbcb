"""One run of hidden states through the encoder's layers, with or without an exit test after each (MuE)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mue_edge.errors import UsageError
from mue_edge.loop.policy import NEVER, exits
from mue_edge.models.ofa.network.exits import MueOptions, exit_scores

BiasOfLayer = Callable[[int], Tensor]


@dataclass(frozen=True)
class StackRun:
    """States [B, L, d] after 0, 1, … layers; by sample, its scores (if exits were tested) and the layers that
    it ran."""

    states: list[Tensor]
    scores: tuple[tuple[float, ...], ...]
    exits: tuple[int, ...]

    def state(self, depth: int) -> Tensor:
        """The state after `depth` layers, or after the last one that ran."""
        return self.states[min(depth, len(self.states) - 1)]


def run_layers(
    layers: nn.ModuleList, x: Tensor, bias: BiasOfLayer, mask: Tensor | None, depth: int | None
) -> StackRun:
    """The first `depth` layers (None: all), without tests. Raises UsageError for a depth that is absent."""
    if depth is not None and not 0 <= depth <= len(layers):
        raise UsageError(f"depth {depth} is not within 0 … {len(layers)} encoder layers")
    states = [x]
    for i, layer in enumerate(list(layers)[:depth]):
        states.append(layer(states[-1], bias(i), mask))
    return StackRun(states, (), (len(states) - 1,) * len(x))


def run_with_exits(
    layers: nn.ModuleList,
    x: Tensor,
    bias: BiasOfLayer,
    mask: Tensor | None,
    padding: Tensor,
    threshold: Callable[[int], float] | None,
    options: MueOptions,
) -> StackRun:
    """`layers` until every sample has exited or the last one is done.

    x [B, L, d]; mask boolean [B, 1, 1, L] or None; padding boolean [B, L]; threshold: layers run so far → the
    score to exceed. A sample that has exited keeps its state while the others go on.
    """
    samples = len(x)
    live = ~padding if options.pads == "masked" else torch.ones_like(padding)
    states, active = [x], [True] * samples
    scores: list[list[float]] = [[] for _ in range(samples)]
    for i, layer in enumerate(layers):
        y = layer(x, bias(i), mask)
        score = exit_scores(x, y, live, over=options.encoder, similarity=options.similarity)
        x = torch.where(torch.tensor(active, device=x.device)[:, None, None], y, x)
        states.append(x)
        limit = NEVER if threshold is None else threshold(i + 1)
        for sample, value in enumerate(score.expand(samples).tolist()):
            if active[sample]:
                scores[sample].append(value)
                active[sample] = not exits(value, None, limit)
        if not any(active):
            break
    return StackRun(states, tuple(map(tuple, scores)), tuple(map(len, scores)))
