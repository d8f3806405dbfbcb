"""The pictures that proofs caption: held-out ones of the sticker recipe, and those of the package."""

from __future__ import annotations

from functools import partial
from typing import Any


def held_out(count: int) -> list[Any]:
    """`count` test_render pictures as RGB images, spread over the split."""
    import numpy as np
    from PIL import Image

    from mue_edge.apps.stickers.dataset import read

    data = read()
    rows = data.rows("test_render")
    chosen = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
    pictures = []
    for i in chosen:
        rgba = Image.fromarray(np.asarray(data.pixels[i]), "RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        pictures.append(Image.alpha_composite(white, rgba).convert("RGB"))
    return pictures


def bundled(count: int) -> tuple[list[Any], list[str]]:
    """`count` pictures of val_render, which comes with the package, and their captions, spread over it."""
    from PIL import Image

    from tools.stickers import shipped

    found = shipped.load("val_render")
    rows = [round(i * (len(found.entries) - 1) / (count - 1)) for i in range(count)]
    return [Image.fromarray(found.pixels[i]) for i in rows], [found.captions[i] for i in rows]


def bundled_samples(captioner: Any) -> tuple[Any, Any, Any]:
    """The stickers' pictures to tune on and to certify on, and frozen document frequencies."""
    from mue_edge.apps.cli.catalogue import calibration_pictures
    from mue_edge.calibrate.data import samples
    from mue_edge.calibrate.data.examples import reference_text

    spoken = partial(reference_text, captioner.tokenizer)
    return samples.of_tables(*calibration_pictures("stickers"), spoken)
