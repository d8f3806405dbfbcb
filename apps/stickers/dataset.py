"""The whole sticker set, as `tools/stickers/recipe.py` builds it in a checkout: records, pixels, splits."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mue_edge.errors import InputFileError

SIZE = 96
SPLITS = ("train", "val_render", "cal_render", "test_render", "test_comp", "test_vendor")


@dataclass(frozen=True)
class Record:
    """One picture of the set; `id` is `<set>/<emoji>` with a counter where a set draws an emoji twice."""

    id: str
    icon: str
    caption: str
    references: tuple[str, ...]
    keywords: tuple[str, ...]
    emoji: str
    base: str
    set: str
    family: str
    split: str
    licence: str


@dataclass(frozen=True)
class Stickers:
    """Records and their pixels, uint8 RGBA [N, S, S, 4] (memory-mapped), in one order."""

    records: tuple[Record, ...]
    pixels: NDArray[np.uint8]

    def rows(self, split: str) -> NDArray[np.int64]:
        """Indices of a split's records. Raises InputFileError for a split that is not there."""
        indices = [i for i, record in enumerate(self.records) if record.split == split]
        if not indices:
            raise InputFileError(f"the stickers have no split {split!r}; they have {', '.join(SPLITS)}")
        return np.asarray(indices, dtype=np.int64)


def default_cache() -> Path:
    """`$MUE_EDGE_CACHE`, else `.cache`, and in it the folder `stickers`."""
    return Path(os.environ.get("MUE_EDGE_CACHE", ".cache")) / "stickers"


def read(cache: Path | None = None, size: int = SIZE) -> Stickers:
    """The sticker set below `cache`. Raises InputFileError when the recipe has not been run."""
    folder = cache or default_cache()
    index, pixels = folder / "index.json", folder / f"pixels-{size}.npy"
    if not (index.is_file() and pixels.is_file()):
        raise InputFileError(
            f"{folder} holds no sticker set of {size} pixels; "
            "make it in a checkout of mue-edge with: python -m tools.stickers.recipe"
        )
    rows = json.loads(index.read_text(encoding="utf-8"))
    records = tuple(
        Record(**(row | {"references": tuple(row["references"]), "keywords": tuple(row["keywords"])})) for row in rows
    )
    return Stickers(records, np.load(pixels, mmap_mode="r"))
