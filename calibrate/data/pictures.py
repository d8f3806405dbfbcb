"""The pictures of a data set at a model's size: checked at the start, decoded when used, kept if they fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mue_edge.bundle.manifest import Preprocess
from mue_edge.calibrate.data.augment import normalise
from mue_edge.calibrate.data.embedded import EmbeddedPicture
from mue_edge.calibrate.data.examples import Example, listed
from mue_edge.errors import InputFileError
from mue_edge.files import open_regular
from mue_edge.inputs import image

# Passes a sequence on, showing how far it is.
Progress = Callable[[Sequence[Example]], Iterable[Example]]

_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}  # markers of the formats' ends
_END_BYTES = 64  # where they are looked for; some programs append a little


class Pictures:
    """Pixels of examples by their place in `examples`, resized as the model wants them.

    A bad picture is found before hours of training: at the start each one is judged by its header and
    its end, and decoded only where these leave a doubt, or where bad ones are to be left out.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        preprocess: Preprocess,
        *,
        skip_bad: bool = False,
        keep_bytes: int = 1 << 30,
        progress: Progress = iter,
    ) -> None:
        """`keep_bytes` of decoded pictures are kept; `problems` has a line for each that was left out.

        Raises InputFileError naming bad pictures unless `skip_bad`, or when no good one is there.
        """
        self.preprocess = preprocess
        self.problems: list[str] = []
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._room = keep_bytes // (3 * preprocess.height * preprocess.width)
        self.examples: list[Example] = []
        for example in progress(examples):
            try:
                if skip_bad or not _looks_whole(example):
                    self._keep(len(self.examples), resized(example, preprocess))
            except InputFileError as problem:
                self.problems.append(str(problem))
            else:
                self.examples.append(example)
        if self.problems and not (skip_bad and self.examples):
            raise InputFileError(
                f"{len(self.problems)} of {len(examples)} pictures cannot be used: {listed(self.problems)}"
                + ("" if skip_bad else "; leave bad pictures out with --skip-bad")
            )

    def __len__(self) -> int:
        return len(self.examples)

    def pixels(self, rows: Sequence[int]) -> Tensor:
        """uint8 [B, H, W, 3]. Raises InputFileError for a picture whose damage shows only now."""
        return torch.from_numpy(np.stack([self._pixels(row) for row in rows]))

    def inputs(self, rows: Sequence[int]) -> Tensor:
        """The same as the model takes them: float [B, 3, H, W]."""
        rgb = self.pixels(rows).permute(0, 3, 1, 2).float() / 255
        return normalise(rgb, self.preprocess.mean, self.preprocess.std)

    def _pixels(self, row: int) -> NDArray[np.uint8]:
        if row in self._kept:
            return self._kept[row]
        try:
            pixels = resized(self.examples[row], self.preprocess)
        except InputFileError as problem:
            raise InputFileError(
                f"{problem}; put a sound picture in its place and repeat the command, "
                "or begin anew with --skip-bad, which decodes every picture first"
            ) from problem
        self._keep(row, pixels)
        return pixels

    def _keep(self, row: int, pixels: NDArray[np.uint8]) -> None:
        if len(self._kept) < self._room:
            self._kept[row] = pixels


def _looks_whole(example: Example) -> bool:
    """Whether it begins and ends like a JPEG, PNG or WebP of a size that is read; else decoding must tell.

    Raises InputFileError where base64 is broken.
    """
    source = example.picture
    try:
        with BytesIO(source.read()) if isinstance(source, EmbeddedPicture) else open_regular(source) as file:
            size = image.size_of(file)
            if not size:  # what could block, as /proc/kmsg does, is not read
                return False
            file.seek(max(0, size - _END_BYTES))
            end = file.read()
            file.seek(4)
            follow = int.from_bytes(file.read(4), "little")  # RIFF: bytes that follow
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                picture = Image.open(file, formats=("JPEG", "PNG", "WEBP"))
                fits = picture.width * picture.height <= image.pixel_limit() and size <= image.MAX_BYTES
                picture.verify()  # a PNG's check sums
            return fits and (size >= 8 + follow if picture.format == "WEBP" else _ENDS[str(picture.format)] in end)
    except InputFileError:
        if isinstance(source, EmbeddedPicture):
            raise
        return False  # decoding tells, with the table's line
    except Exception:  # a decoder fed with foreign bytes can raise anything
        return False


def resized(example: Example, p: Preprocess) -> NDArray[np.uint8]:
    """The picture as uint8 [H, W, 3], resized as `mue_edge.inputs.image.preprocess` does.

    Raises InputFileError, which names the table's line and what is wrong.
    """
    source = example.picture.read() if isinstance(example.picture, EmbeddedPicture) else example.picture
    try:
        picture = image.load_for_network(p, source).rgb
    except InputFileError as problem:
        raise InputFileError(f"{example.where}: {problem}") from problem
    return np.asarray(picture.resize((p.width, p.height), Image.Resampling.BICUBIC), dtype=np.uint8)
