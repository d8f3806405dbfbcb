"""The pictures of a data set at a model's size: all opened once, kept in memory as far as they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mue_edge import image
from mue_edge.calibrate.embedded import Embedded
from mue_edge.calibrate.examples import Example
from mue_edge.errors import InputFileError

# Passes a sequence on, showing how far it is.
Progress = Callable[[Sequence[Example]], Iterable[Example]]


class Pictures:
    """Pixels of examples by their place in `examples`, resized as the model wants them.

    Every picture is decoded once at the start, so that a bad one is found before hours of training.
    """

    def __init__(
        self, examples: Sequence[Example], side: int, *,
        skip_bad: bool = False, keep_bytes: int = 2 << 30, progress: Progress = iter,
    ) -> None:  # fmt: skip
        """`problems` has a line for each picture that `skip_bad` left out.

        Raises InputFileError naming the first bad picture otherwise, or when no good one is there.
        """
        self.side = side
        self.problems: list[str] = []
        kept: list[Example] = []
        self._pixels: list[NDArray[np.uint8] | None] = []
        room = keep_bytes // (3 * side * side)
        for example in progress(examples):
            try:
                pixels = resized(example, side)
            except InputFileError as problem:
                if not skip_bad:
                    raise InputFileError(f"{problem}; leave bad pictures out with --skip-bad") from problem
                self.problems.append(str(problem))
                continue
            kept.append(example)
            self._pixels.append(pixels if len(kept) <= room else None)
        if not kept:
            raise InputFileError(
                f"none of {len(examples)} pictures can be used; the first: {self.problems[0]}"
            )
        self.examples = tuple(kept)

    def __len__(self) -> int:
        return len(self.examples)

    def pixels(self, rows: Sequence[int]) -> Tensor:
        """uint8 [B, side, side, 3]."""
        found = []
        for row in rows:
            pixels = self._pixels[row]
            found.append(resized(self.examples[row], self.side) if pixels is None else pixels)
        return torch.from_numpy(np.stack(found))


def resized(example: Example, side: int) -> NDArray[np.uint8]:
    """The picture as uint8 [side, side, 3], resized as `mue_edge.image.preprocess` does.

    Raises InputFileError, which names the table's line and what is wrong.
    """
    source = example.picture.read() if isinstance(example.picture, Embedded) else example.picture
    try:
        picture = image.load(source)
    except InputFileError as problem:
        raise InputFileError(f"{example.where}: {problem}") from problem
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC), dtype=np.uint8)


def as_input(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] → float [B, 3, H, W] in −1 … 1."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
