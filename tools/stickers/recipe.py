"""Builds the sticker set: `python -m tools.stickers.recipe [--cache DIR]`.

Fetches the pinned packages, maps icons to emoji, captions them with CLDR names, renders,
drops repeats and near-empty pictures, and splits. Writes `index.json` (one record a picture)
and `pixels-<size>.npy` (uint8 RGBA [N, size, size, 4], same order). Same packages, same result.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from mue_edge.apps.stickers.dataset import SIZE, Record, default_cache
from mue_edge.errors import VerificationError
from tools.stickers.names import base_of, name_tables, read_words
from tools.stickers.render import Source, bitmap_sources, digest, draw, iconify_sources, nearly_empty
from tools.stickers.sources import SETS, VENDOR_SET, PictureSet, fetch
from tools.stickers.splits import Item, assign, leaks


def sources(modules: Path) -> Iterator[tuple[PictureSet, Source]]:
    """All pictures in a fixed order."""
    words = read_words(modules)
    tables = name_tables(modules, words)
    for pictures in SETS:
        folder = modules / pictures.package
        if pictures.package.startswith("@iconify-json/"):
            found: Iterator[Source] = iconify_sources(folder, tables[pictures.name])
        else:
            found = bitmap_sources(folder, set(words))
        for source in found:
            yield pictures, source


def _draw(job: tuple[Source, int]) -> NDArray[np.uint8]:
    return draw(*job)


def build(cache: Path, size: int = SIZE, workers: int | None = None) -> Path:
    """Make `index.json` and `pixels-<size>.npy` below `cache`; returns the index's path."""
    modules = fetch(cache)
    words = read_words(modules)
    pairs = list(sources(modules))
    scratch = cache / f"pixels-{size}.raw"
    kept: list[tuple[PictureSet, Source]] = []
    seen: set[tuple[str, str]] = set()
    with ProcessPoolExecutor(workers or os.cpu_count() or 1) as pool, scratch.open("wb") as file:
        drawn = pool.map(_draw, [(source, size) for _, source in pairs], chunksize=64)
        with click.progressbar(drawn, length=len(pairs), label="rendering") as bar:
            for pair, pixels in zip(pairs, bar, strict=True):
                key = (pair[1].emoji, digest(pixels))
                if key in seen or nearly_empty(pixels):
                    continue
                seen.add(key)
                kept.append(pair)
                file.write(pixels.tobytes())
    items = [Item(source.emoji, pictures.family, words[source.emoji].caption) for pictures, source in kept]
    splits = assign(items, frozenset({VENDOR_SET}))
    if leaks(items, splits):
        raise VerificationError(f"the splits leak: {sorted(leaks(items, splits))[:3]}")
    counts: Counter[str] = Counter()
    records = []
    for (pictures, source), split in zip(kept, splits, strict=True):
        word = words[source.emoji]
        name = f"{pictures.name}/{source.emoji}"
        counts[name] += 1
        ident = name if counts[name] == 1 else f"{name}.{counts[name]}"
        records.append(
            Record(
                ident,
                source.icon,
                word.caption,
                word.references,
                word.keywords,
                source.emoji,
                base_of(source.emoji),
                pictures.name,
                pictures.family,
                split,
                pictures.licence,
            )
        )
    _write_pixels(scratch, cache / f"pixels-{size}.npy", (len(records), size, size, 4))
    index = cache / "index.json"
    partial = index.with_suffix(".partial")
    partial.write_text(json.dumps([asdict(r) for r in records], ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    partial.replace(index)
    return index


def _write_pixels(raw: Path, path: Path, shape: tuple[int, int, int, int]) -> None:
    partial = path.with_suffix(".partial")
    source = np.memmap(raw, dtype=np.uint8, mode="r", shape=shape)
    target = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        partial, mode="w+", dtype=np.uint8, shape=shape
    )
    target[:] = source
    target.flush()
    del source, target
    partial.replace(path)
    raw.unlink()


@click.command()
@click.option(
    "--cache", type=click.Path(path_type=Path), help="Folder for packages and pictures (default: .cache/stickers)."
)
@click.option("--size", default=SIZE, show_default=True, help="Side of the rendered pictures in pixels.")
def main(cache: Path | None, size: int) -> None:
    """Fetch, render and split the sticker set."""
    index = build(cache or default_cache(), size)
    records = json.loads(index.read_text(encoding="utf-8"))
    click.echo(f"{len(records)} pictures, {len({r['caption'] for r in records})} captions in {index.parent}")
    for split, count in sorted(Counter(r["split"] for r in records).items()):
        captions = len({r["caption"] for r in records if r["split"] == split})
        click.echo(f"  {split:12} {count:6} pictures {captions:6} captions")


if __name__ == "__main__":
    main()
