"""One picture, stored in each EXIF orientation."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

Turn = Image.Transpose
# EXIF orientation → how the pixels lie in the file (EXIF 2.32, table 6).
STORED = {
    1: None, 2: Turn.FLIP_LEFT_RIGHT, 3: Turn.ROTATE_180, 4: Turn.FLIP_TOP_BOTTOM, 5: Turn.TRANSPOSE,
    6: Turn.ROTATE_90, 7: Turn.TRANSVERSE, 8: Turn.ROTATE_270,
}  # fmt: skip


def smooth(seed: int) -> Image.Image:
    """A picture without symmetry and fine detail, which JPEG keeps."""
    rng = np.random.default_rng(seed)
    blocks = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return blocks.resize((400, 320), Image.Resampling.BICUBIC)


def stored(upright: Image.Image, orientation: int, kind: str) -> bytes:
    """A file that shows `upright`; but for JPEG's losses, exactly."""
    turn = STORED[orientation]
    picture = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"lossless": True}
    data = io.BytesIO()
    picture.save(data, kind, exif=exif, **(options if kind != "PNG" else {}))
    return data.getvalue()
