"""The cut: what a family of models provides to be deployed (`Family.cut`).

A cut is a list of segments as torch modules, the constants that they are fed, and the layout by
which the host loop drives them. Export, loop and targets know these words and no family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from mue_edge.loop.protocol import Layout
from mue_edge.loop.search import SearchSettings


@dataclass(frozen=True)
class CutRequest:
    """How to cut. `ends`: stack → layers after which a segment ends, the last being the stack's depth.

    prompt: token ids of a constant prompt (bos and eos included); None cuts a text branch of
    `text_length` tokens instead. `search` sizes the decoder: one query row a beam. `verify_rows`: drafts that
    one pass can check, 0 for none.
    """

    height: int
    width: int
    ends: Mapping[str, tuple[int, ...]]
    search: SearchSettings
    prompt: tuple[int, ...] | None
    text_length: int = 0
    fill_rows: int = 4
    verify_rows: int = 0


@dataclass(frozen=True)
class StackShape:
    """Layers of a stack, and whether the model was trained for exits there."""

    layers: int
    trained: bool = True


@dataclass(frozen=True)
class Piece:
    """One segment before conversion: a module, example inputs by port (in call order), output ports."""

    name: str
    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    stack: str = ""
    first: int = 0
    last: int = 0


@dataclass(frozen=True)
class Table:
    """A constant value[n, h, i, j] = rows[n, index[i, j], h]; stored unexpanded."""

    rows: NDArray[np.float32]
    index: NDArray[np.int32]


@dataclass(frozen=True)
class Cut:
    """Segments, constants and layout of one model; samples: pictures [1, 3, H, W] that it may be tried on,
    and sources: ids of texts, where it reads one."""

    pieces: tuple[Piece, ...]
    constants: Mapping[str, NDArray[np.float32]]
    layout: Layout
    tables: Mapping[str, Table] = field(default_factory=dict)
    samples: tuple[NDArray[np.float32], ...] = ()
    sources: tuple[tuple[int, ...], ...] = ()

    def piece(self, name: str) -> Piece:
        return next(p for p in self.pieces if p.name == name)
