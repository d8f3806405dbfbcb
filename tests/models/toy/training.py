"""The toy's `mue_edge.models.family.Training`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mue_edge.errors import UsageError
from mue_edge.inputs import tokens as vocabulary_of
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.models.family import Depths
from mue_edge.models.heads import Steps
from tests.models.toy.network import Toy, config_of

PROMPTS = {"caption": {"text": "", "ids": [0, 2]}}  # it reads no text


def fresh(config: dict[str, Any], vocabulary: Path) -> tuple[Toy, Tokenizer, dict[str, Any]]:
    words = vocabulary_of.load(vocabulary)
    return Toy(config_of(config | {"words": len(words.pieces)})), words, PROMPTS


def with_encoder(config: dict[str, Any], decomposed: bool) -> dict[str, Any]:
    raise UsageError("toys have one encoder")


def loss(
    network: Toy,
    prompt: Sequence[int],
    pixels: Tensor,
    tokens: Tensor,
    *,
    shallow: float = 0.0,
    rng: torch.Generator | None = None,
    label_smoothing: float = 0.0,
    over_layers: str = "sum",
) -> tuple[Tensor, Tensor]:
    depth = network.config.seeing
    if rng is not None and float(torch.rand((), generator=rng)) < shallow:
        depth = int(torch.randint(1, depth + 1, (), generator=rng))
    states = network.states(tokens[:, :-1], network.seen(pixels)[depth])[1:]
    by_layer = torch.stack(
        [
            F.cross_entropy(
                network.head(state).flatten(0, 1),
                tokens[:, 1:].flatten(),
                ignore_index=1,
                reduction="sum",
                label_smoothing=label_smoothing,
            )
            for state in states
        ]
    )
    return by_layer.sum() if over_layers == "sum" else by_layer.mean(), by_layer.detach()


def greedy(
    network: Toy,
    prompt: Sequence[int],
    pixels: Tensor,
    *,
    max_length: int = 24,
    encoder_depth: int | None = None,
    decoder_depth: int | None = None,
) -> list[list[int]]:
    cell = encoder_depth or network.config.seeing, decoder_depth or network.config.speaking
    return greedy_by_depth(network, prompt, pixels, [cell], max_length=max_length)[cell]


def greedy_by_depth(
    network: Toy, prompt: Sequence[int], pixels: Tensor, cells: Sequence[Depths], *, max_length: int = 24
) -> dict[Depths, list[list[int]]]:
    found = {cell: _fed(network, pixels, *cell, max_length).tolist() for cell in cells}
    ended = {cell: [[*row[1:], 2] for row in rows] for cell, rows in found.items()}
    return {cell: [row[: row.index(2)] for row in rows] for cell, rows in ended.items()}


@torch.no_grad()
def _fed(network: Toy, pixels: Tensor, seeing: int, speaking: int, steps: int) -> Tensor:
    """bos and the best words after it [B, 1 + steps]."""
    x, fed = network.seen(pixels)[seeing], torch.zeros(len(pixels), 1, dtype=torch.long)
    for _ in range(steps):
        best = logits(network, network.states(fed, x)[speaking][:, -1]).argmax(-1)
        fed = torch.cat([fed, best[:, None]], 1)
    return fed


@torch.no_grad()
def steps(network: Toy, prompt: Sequence[int], pixels: Tensor, rng: torch.Generator, max_length: int) -> Steps:
    c = network.config
    depth = int(torch.randint(1, c.seeing + 1, (), generator=rng))
    fed = _fed(network, pixels, depth, c.speaking, max_length)[:, :-1]
    live = fed.eq(2).cumsum(1).eq(0)
    states = torch.stack(network.states(fed, network.seen(pixels)[depth]), 2)[live]
    read = logits(network, states[:, 1:])
    two, best = torch.softmax(read[:, :-1], -1).topk(2).values, read.argmax(-1)
    return Steps(states, two[..., 0] - two[..., 1], best[:, :-1] == best[:, -1:])


def heads(network: Toy) -> dict[str, dict[str, Tensor]]:
    return {}


def logits(network: Toy, states: Tensor) -> Tensor:
    never = torch.zeros(network.config.words).index_fill(0, torch.tensor([0, 1]), -math.inf)
    return torch.as_tensor(network.head(states)) + never


def features(network: Toy, pixels: Tensor) -> Tensor:
    return torch.as_tensor(network.patches(pixels)).mean(1)


def see(network: Toy, pixels: Tensor) -> None:
    return None
