"""Rendering, the demo choice, and the pictures that are shipped."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mue_edge.apps import stickers
from mue_edge.apps.stickers.dataset import Record, default_cache, read
from mue_edge.errors import InputFileError
from tools.stickers.demo_set import QUOTAS, TONED, choose
from tools.stickers.names import TONES
from tools.stickers.render import Source, bitmap_sources, digest, draw, iconify_sources, nearly_empty, on_white
from tools.stickers.splits import Item, leaks, toned

_CORNER = '<path fill="#f00" d="M0 0h8v8H0z"/>'  # the upper left quarter


def record(**changes: object) -> Record:
    fields = asdict(
        Record("noto/1f600", "grin", "grin", ("grin",), (), "1f600", "1f600", "noto", "noto", "train", "MIT")
    )
    return Record(**(fields | changes))  # type: ignore[arg-type]


def test_aliases_are_drawn_flipped_and_turned(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    data = {
        "icons": {"left": {"body": _CORNER}, "stray": {"body": _CORNER}},
        "aliases": {
            "right": {"parent": "left", "hFlip": True},
            "low": {"parent": "right", "rotate": 1},
            "again": {"parent": "left"},
        },
        "width": 16,
        "height": 16,
    }
    (tmp_path / "icons.json").write_text(json.dumps(data), encoding="utf-8")
    table = {"left": "1f448", "right": "1f449", "low": "1f447", "again": "1f448"}
    found = {source.icon: source for source in iconify_sources(tmp_path, table)}
    assert set(found) == {"left", "right", "low"}  # a second name of one emoji and icon adds nothing
    red = {name: draw(source, 16)[..., 3] > 127 for name, source in found.items()}
    assert red["left"][:7, :7].all()
    assert not red["left"][9:].any()
    assert red["right"][:7, 9:].all()
    assert red["low"][9:, 9:].all()
    assert not nearly_empty(draw(found["left"], 16))
    assert nearly_empty(np.zeros((16, 16, 4), np.uint8))


def test_wide_drawings_are_centred(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 20), (0, 0, 255, 255)).save(tmp_path / "flag.png")
    pixels = draw(Source("1f6a9", "flag", None, tmp_path / "flag.png"), 32)
    assert pixels.shape == (32, 32, 4)
    assert (pixels[12:20, :, 3] == 255).all()
    assert (pixels[:6, :, 3] < 8).all()
    assert (on_white(pixels)[0, 0] == 255).all()
    assert digest(pixels) != digest(pixels[::-1].copy() + 1)


def test_swapped_tones_of_the_3d_set_are_put_right(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    for tone in TONES:
        Image.new("RGBA", (4, 4)).save(tmp_path / "assets" / f"1f44b-{tone}.webp")
    known = {f"1f44b-{tone}" for tone in TONES}
    found = {source.icon: source.emoji for source in bitmap_sources(tmp_path, known)}
    assert found["1f44b-1f3fc"] == "1f44b-1f3fd"
    assert found["1f44b-1f3fd"] == "1f44b-1f3fc"
    assert found["1f44b-1f3fb"] == "1f44b-1f3fb"


def test_the_demo_is_held_out_varied_and_decent() -> None:
    records = [
        record(id=f"a/{i}", emoji=f"{i:04x}", base=f"{i // 2:04x}", caption=f"c{i}", split="test_render")
        for i in range(200)
    ]
    groups = {r.emoji: i % 10 for i, r in enumerate(records)}
    records.append(record(id="a/x", emoji="x", base="x", caption="middle finger", split="test_render"))
    records.append(record(id="a/y", emoji="y", base="y", caption="trained on"))
    records += [
        record(id=f"a/t{i}", emoji=f"{i:04x}-{tone}", base=f"t{i}", caption=f"t{i}", split="test_render")
        for i, tone in enumerate(TONES * 2)
    ]
    groups |= {f"{i:04x}-{tone}": 1 for i, tone in enumerate(TONES * 2)}
    chosen = choose(records, groups | {"x": 1, "y": 1})
    assert sum(toned(r.emoji) for r in chosen) == TONED
    assert len(chosen) == len({r.base for r in chosen})
    assert {r.split for r in chosen} == {"test_render"}
    assert len(chosen) <= sum(QUOTAS.values())
    assert not {"middle finger", "trained on"} & {r.caption for r in chosen}


def test_shipped_demo_pictures() -> None:
    pictures = stickers.demo_pictures()
    assert len(pictures) == sum(QUOTAS.values())
    assert sum(path.stat().st_size for path, _ in pictures) < 600_000
    for path, caption in pictures:
        with Image.open(path) as image:
            assert image.format == "WEBP"
            assert min(image.size) >= 128
        assert caption == caption.lower().strip() != ""
        assert not path.name.startswith("openmoji")
    folder = stickers.model_folder().parent / "demo"
    assert {p.name for p, _ in pictures} == {p.name for p in folder.glob("*.webp")}
    assert sum("flag" in caption for _, caption in pictures) < 5
    assert sum("skin tone" in caption for _, caption in pictures) <= TONED


def test_the_real_index_does_not_leak() -> None:
    try:
        data = read(default_cache())
    except InputFileError:
        pytest.skip("the sticker recipe has not been run here")
    items = [Item(r.emoji, r.family, r.caption) for r in data.records]
    assert leaks(items, [r.split for r in data.records]) == set()
    assert len(data.records) == len(data.pixels)
    assert len({r.id for r in data.records}) == len(data.records)
    with pytest.raises(InputFileError, match="val_render"):
        data.rows("test")
