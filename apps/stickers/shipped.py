"""The pictures that come with the package, to tune and to certify the bundled model's policies on.

`pictures/<split>/` holds a split as the model sees it: `<set>/<emoji>.webp` (96 × 96, on white) and
`captions.jsonl`, one object a picture. It is a data set like a user's own:
`mue-edge evaluate MODEL --data …/pictures/cal_render` reads it too. No torch, no recipe is needed.

| split | pictures | for |
|---|---|---|
| val_render | 415 | choosing: checkpoints, thresholds |
| cal_render | 1398 | calibration: thresholds by 30 % of its emoji, certificates by the others |

`pictures/train_captions.jsonl` has the captions that the model was trained on, for CIDEr-D's document
frequencies. `python -m tools.stickers.shipped` writes all this in a checkout, from what the recipe made.
What is certified is certified on the shipped pictures, so what their compression does to them is part of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mue_edge.errors import InputFileError
from mue_edge.image import load as load_image

FOLDER = Path(__file__).resolve().parent / "pictures"
SPLITS = ("val_render", "cal_render")
TABLE = "captions.jsonl"
TRAIN = "train_captions.jsonl"


@dataclass(frozen=True)
class Entry:
    """A line of the table; pictures of one `cluster` (an emoji) are one draw, those of one `base` differ in
    skin tone."""

    image: str
    caption: str
    references: tuple[str, ...]
    cluster: str
    base: str
    set: str

    @property
    def id(self) -> str:
        """The record's id in the recipe's index: `<set>/<emoji>`."""
        return self.image.removesuffix(".webp")


@dataclass(frozen=True)
class Shipped:
    """A split's entries and their pixels, uint8 RGB [N, 96, 96, 3], in one order."""

    entries: tuple[Entry, ...]
    pixels: NDArray[np.uint8]

    @property
    def captions(self) -> list[str]:
        return [entry.caption for entry in self.entries]

    @property
    def clusters(self) -> list[str]:
        """What counts as one draw: the emoji."""
        return [entry.cluster for entry in self.entries]


def load(split: str, folder: Path = FOLDER) -> Shipped:
    """A shipped split, decoded (well under a second).

    Raises InputFileError for a split that is not shipped, and for a picture that is missing or damaged.
    """
    place = folder / split
    if split not in SPLITS or not (place / TABLE).is_file():
        raise InputFileError(
            f"{place} holds no pictures; shipped are {' and '.join(SPLITS)} (install mue-edge again), "
            "the other splits are made in a checkout by: python -m tools.stickers.recipe"
        )
    lines = (place / TABLE).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    entries = tuple(Entry(**(row | {"references": tuple(row["references"])})) for row in rows)
    return Shipped(entries, np.stack([np.asarray(load_image(place / entry.image).rgb) for entry in entries]))


def train_captions(folder: Path = FOLDER) -> list[str]:
    """The caption of every training picture: what document frequencies are taken from."""
    rows = [json.loads(line) for line in (folder / TRAIN).read_text(encoding="utf-8").splitlines()]
    return [row["caption"] for row in rows for _ in range(row["pictures"])]
