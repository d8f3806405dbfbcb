"""The toy network: patches that one linear layer reads; an encoder layer changes each patch by itself and by
the mean of all; a decoder layer attends to the words before and to the patches, nearer words more.

It reads no text. Shapes: B pictures, P patches, L words, d width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mue_edge import schema

PATCH = 8


@dataclass(frozen=True)
class Config:
    words: int = 20
    side: int = 32
    width: int = 16
    seeing: int = 3
    speaking: int = 2


def config_of(data: Mapping[str, Any]) -> Config:
    return schema.decode(Config, {k: v for k, v in data.items() if k != "family"}, "config.json")


class Patches(nn.Module):
    """[B, 3, H, W] → [B, P, d]."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.read = nn.Linear(3 * PATCH**2, c.width)
        self.places = nn.Parameter(torch.randn((c.side // PATCH) ** 2, c.width))

    def forward(self, pixels: Tensor) -> Tensor:
        b, side = pixels.shape[0], pixels.shape[2] // PATCH
        x = pixels.reshape(b * 3, side, PATCH, side, PATCH).transpose(2, 3)
        x = x.reshape(b, 3, side**2, PATCH**2).transpose(1, 2).reshape(b, side**2, -1)
        out: Tensor = self.read(x) + self.places
        return out


def attended(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """[B, Q, d] over [B, S, d]. XNNPACK takes products of rank 3."""
    logits = torch.bmm(q, k.transpose(1, 2)) * q.shape[2] ** -0.5 + bias
    return torch.bmm(torch.softmax(logits, -1), v)


class See(nn.Module):
    """Patches [B, P, d] → [B, P, d]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.own, self.all = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        # XNNPACK sums along the last axis only.
        mean = x.transpose(1, 2).sum(2)[:, None] * (1 / x.shape[1])
        return x + torch.tanh(self.own(x) + self.all(mean))


class Speak(nn.Module):
    """Words [B, Q, d] over keys and values of words and of patches → [B, Q, d]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.over, self.cross_k, self.cross_v = (nn.Linear(width, width) for _ in range(3))
        self.end = nn.Linear(width, width)

    def forward(self, x: Tensor, own: Sequence[Tensor], cross: Sequence[Tensor]) -> Tensor:
        """own, cross: keys, values and bias."""
        y = x + attended(self.q(x), *own)
        y = y + attended(self.over(y), *cross)
        return y + torch.tanh(self.end(y))


class Toy(nn.Module):
    family = "toy"

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.config = c
        self.patches, self.words = Patches(c), nn.Embedding(c.words, c.width)
        self.seeing: Any = nn.ModuleList(See(c.width) for _ in range(c.seeing))
        self.speaking: Any = nn.ModuleList(Speak(c.width) for _ in range(c.speaking))
        self.head = nn.Linear(c.width, c.words)

    def seen(self, pixels: Tensor) -> list[Tensor]:
        """States [B, P, d] after 0, 1, … encoder layers."""
        states = [self.patches(pixels)]
        for layer in self.seeing:
            states.append(layer(states[-1]))
        return states

    def states(self, fed: Tensor, x: Tensor) -> list[Tensor]:
        """[B, L, d] of words [B, L] after 0, 1, … decoder layers."""
        bias = distances(fed.shape[1]) + torch.full((fed.shape[1],) * 2, -1e4).triu(1)
        states = [self.words(fed)]
        for layer in self.speaking:
            y = states[-1]
            cross = (layer.cross_k(x), layer.cross_v(x), torch.zeros(()))
            states.append(layer(y, (layer.k(y), layer.v(y), bias), cross))
        return states


def distances(words: int) -> Tensor:
    """What attention loses a word of distance [L, L]."""
    at = torch.arange(words)
    return -0.2 * (at[:, None] - at).float()
