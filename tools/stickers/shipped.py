"""Writes the pictures that come with the package, and reads them: `python -m tools.stickers.shipped`.

Needs what the recipe made to write. `mue_edge.apps.stickers.shipped` says what they are for.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mue_edge.apps.stickers.dataset import Stickers, read
from mue_edge.apps.stickers.shipped import FOLDER, SPLITS, TRAIN
from mue_edge.errors import InputFileError
from mue_edge.files import atomic_folder, atomic_write
from mue_edge.inputs.image import load as load_image
from tools.stickers.render import on_white
from tools.stickers.sources import VENDOR_SET

TABLE = "captions.jsonl"
# Drawings have few colours: a palette and lossless WebP stay nearer to them than lossy WebP of that size.
COLOURS = 64


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
            f"{place} holds no pictures; shipped are {' and '.join(SPLITS)}, "
            "the other splits are made by: python -m tools.stickers.recipe"
        )
    lines = (place / TABLE).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    entries = tuple(Entry(**(row | {"references": tuple(row["references"])})) for row in rows)
    return Shipped(entries, np.stack([np.asarray(load_image(place / entry.image).rgb) for entry in entries]))


def write_train_captions(data: Stickers, folder: Path) -> None:
    """Every training caption with the number of its pictures."""
    counts = Counter(data.records[row].caption for row in data.rows("train").tolist())
    rows = [{"caption": caption, "pictures": n} for caption, n in sorted(counts.items())]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    atomic_write(folder / TRAIN, text)


def write(data: Stickers, split: str, folder: Path) -> int:
    """Make `folder/<split>`; returns its size in bytes."""
    with atomic_folder(folder / split, TABLE) as work:
        lines = []
        for row in data.rows(split).tolist():
            record = data.records[row]
            if record.set == VENDOR_SET:
                raise InputFileError(f"{record.id}: pictures of {VENDOR_SET} are share-alike and not shipped")
            entry = Entry(f"{record.id}.webp", record.caption, record.references, record.emoji, record.base, record.set)
            path = work / entry.image
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(compressed(on_white(data.pixels[row])))
            lines.append(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
        (work / TABLE).write_text("".join(lines), encoding="utf-8")
        return sum(path.stat().st_size for path in work.rglob("*") if path.is_file())


def compressed(pixels: NDArray[np.uint8]) -> bytes:
    """RGB [H, W, 3] as a lossless WebP file of its 64 best colours; the same libraries, the same bytes."""
    picture = Image.fromarray(pixels).quantize(COLOURS, kmeans=2, dither=Image.Dither.NONE).convert("RGB")
    data = io.BytesIO()
    picture.save(data, "WEBP", lossless=True, quality=100, method=4)
    return data.getvalue()


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
@click.option("--out", type=click.Path(path_type=Path), default=FOLDER)
def main(cache: Path | None, out: Path) -> None:
    """Write the pictures that are shipped."""
    data = read(cache)
    out.mkdir(parents=True, exist_ok=True)
    write_train_captions(data, out)
    for split in SPLITS:
        size = write(data, split, out)
        click.echo(f"{split}: {len(data.rows(split))} pictures, {size / 1e6:.2f} MB in {out / split}")


if __name__ == "__main__":
    main()
