"""What a cut is put together from: the model at the sizes of a request, and the parts made so far."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mue_edge.loop.protocol import Stack
from mue_edge.models.cut import CutRequest, Piece, Table
from mue_edge.models.ofa.model import Model

Array = NDArray[np.float32]
SCORED = ("y", "score", "gap")


class Parts:
    """A model, its positions at the request's sizes, and the parts of its cut, which are added one by one.

    prompt: ids [1, T] of a constant prompt, or None.
    """

    def __init__(self, model: Model, request: CutRequest) -> None:
        self.model, self.request, self.config = model, request, model.config
        self.pixels = torch.zeros(1, 3, request.height, request.width)
        _, self.grid = model.encoder.embed_patches(self.pixels)
        self.prompt = None if request.prompt is None else torch.tensor([request.prompt])
        self.words = request.text_length if self.prompt is None else self.prompt.shape[1]
        self.image_positions = model.encoder.image_positions(self.grid)
        self.text_positions = model.encoder.text_positions(self.words)
        self.patches = len(self.image_positions)
        self.pieces: list[Piece] = []
        self.constants: dict[str, Array] = {}
        self.tables: dict[str, Table] = {}
        self.stacks: list[Stack] = []

    def spans(self, stack: str) -> Iterable[tuple[int, int]]:
        """First layer, and last layer + 1, of each segment."""
        ends = self.request.ends[stack]
        return zip((0, *ends[:-1]), ends)

    def constant(self, name: str, value: Tensor) -> Tensor:
        """Add a constant; it is returned as an example input."""
        self.constants[name] = array(value)
        return torch.from_numpy(self.constants[name])


def array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().to(torch.float32).numpy())
