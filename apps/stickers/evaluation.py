"""Measures a model folder on a split of the stickers."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mue_edge import models
from mue_edge.apps.stickers.dataset import Record, Stickers, read
from mue_edge.bundle.manifest import Preprocess
from mue_edge.calibrate.data.augment import normalise, on_ground, place
from mue_edge.calibrate.metrics.quality import SCORES
from mue_edge.calibrate.training.caption_training import Learner
from mue_edge.calibrate.training.depths import Captioned, texts_by_depth
from mue_edge.errors import InputFileError
from mue_edge.models.family import Depths

References = Literal["first", "all"]
_TONE = re.compile(r"(, |: )?(?:medium-light|medium-dark|light|medium|dark) skin tone")


def without_tone(caption: str) -> str:
    """A caption with its skin tones taken out: "woman: light skin tone, beard" → "woman: beard"."""
    bare = _TONE.sub(lambda m: "\0" if m.group(1) == ": " else "", caption)
    return re.sub("\0(, )?", lambda m: ": " if m.group(1) else "", bare).strip()


def still(data: Stickers, rows: NDArray[np.int64], p: Preprocess) -> Tensor:
    """Pictures on white as the model sees them: [B, 3, H, W]."""
    return normalise(on_ground(place(torch.from_numpy(data.pixels[rows]), None)), p.mean, p.std)


def chosen_rows(data: Stickers, split: str, limit: int | None = None) -> NDArray[np.int64]:
    """A split's rows, or a union's as in "test_render+test_comp": the first `limit` in a mixed order.

    Raises InputFileError for a split that is not there or stands twice.
    """
    parts = split.split("+")
    if len(set(parts)) != len(parts):
        raise InputFileError(f"the split {split!r} names a part twice")
    rows = np.concatenate([data.rows(part) for part in parts])
    return np.random.default_rng(0).permutation(rows)[:limit]


def caption(
    learner: Learner,
    split: str,
    depths: Sequence[Depths],
    *,
    cache: Path | None = None,
    limit: int | None = None,
    references: References = "first",
    batch: int = 64,
) -> tuple[list[Record], list[Captioned]]:
    """Greedy captions of a split or union at each depth, in an order that mixes the sets.

    `references`: the CLDR name, or all that people call it; clusters are emoji.
    Raises InputFileError when the recipe has not been run or the model takes another picture size.
    """
    data = read(cache)
    size, p = data.pixels.shape[1], models.describe(learner.model).preprocess
    if p.height != size:
        raise InputFileError(
            f"the model takes pictures of {p.height} pixels, the stickers have {size}; "
            f"in a checkout of the project, make others: python -m tools.stickers.recipe --size {p.height}"
        )
    rows = chosen_rows(data, split, limit)

    def pictures() -> Iterator[Tensor]:
        chunks = np.array_split(rows, -(-len(rows) // batch))
        with click.progressbar(chunks, label=split, file=sys.stderr) as bar:
            for chunk in bar:
                yield still(data, chunk, p)

    texts = texts_by_depth(learner, pictures(), depths)
    records = [data.records[i] for i in rows]
    captioned = [
        Captioned(r.id, names(r, references), r.emoji, {cell: texts[cell][i] for cell in depths})
        for i, r in enumerate(records)
    ]
    return records, captioned


def names(record: Record, references: References) -> tuple[str, ...]:
    """What people call a picture, in lower case, the CLDR name first."""
    more = record.references if references == "all" else ()
    return tuple(dict.fromkeys(text.lower() for text in (record.caption, *more)))


def _exact_but_tone(caption: str, reference: str) -> float:
    return float(without_tone(caption) == without_tone(reference))


# The general ones, and exact match that forgives the skin tone.
STICKER_SCORES = SCORES | {"exact_match_but_tone": _exact_but_tone}
