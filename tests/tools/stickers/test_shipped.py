"""The shipped pictures: what is read is what was drawn, licences, errors."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mue_edge.apps.stickers import demo_pictures
from mue_edge.apps.stickers.dataset import Record, Stickers, default_cache, read
from mue_edge.apps.stickers.shipped import FOLDER, SPLITS, train_captions
from mue_edge.calibrate.data import examples
from mue_edge.errors import InputFileError
from tools.stickers.render import on_white
from tools.stickers.shipped import load, write, write_train_captions
from tools.stickers.sources import SETS, VENDOR_SET

SIZES = {"val_render": 415, "cal_render": 1398}


def tiny(*, vendor: bool = False) -> Stickers:
    """Two pictures of cal_render, a red and a half-transparent blue one, and one of train."""
    rows = [("noto", "1f600", "cal_render"), ("twemoji", "1f468-1f3fb", "cal_render"), ("noto", "1", "train")]
    records = [
        Record(f"{s}/{e}", "icon", f"name {e}", (f"name {e}", "other"), (), e, e[:5], s, s, split, "MIT")
        for s, e, split in rows
    ]
    pixels = np.zeros((3, 96, 96, 4), np.uint8)
    pixels[0] = (255, 0, 0, 255)
    pixels[1] = (0, 0, 255, 128)
    if vendor:
        records[1] = Record(**(vars(records[1]) | {"set": VENDOR_SET}))
    return Stickers(tuple(records), pixels)


def test_written_pictures_are_read_back(tmp_path: Path) -> None:
    size = write(tiny(), "cal_render", tmp_path)
    assert size == sum(p.stat().st_size for p in tmp_path.rglob("*.*") if p.is_file())
    found = load("cal_render", tmp_path)
    assert [entry.id for entry in found.entries] == ["noto/1f600", "twemoji/1f468-1f3fb"]
    assert found.captions == ["name 1f600", "name 1f468-1f3fb"]
    assert found.clusters == ["1f600", "1f468-1f3fb"]
    assert found.entries[1].base == "1f468"
    assert found.entries[0].references == ("name 1f600", "other")
    assert found.pixels.shape == (2, 96, 96, 3)
    assert found.pixels.dtype == np.uint8
    expected = np.array([[255, 0, 0], [127, 127, 255]])
    assert np.abs(found.pixels.mean((1, 2)) - expected).max() < 4
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.*") if p.is_file()}
    write(tiny(), "cal_render", tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.*") if p.is_file()} == before


def test_training_captions_count_their_pictures(tmp_path: Path) -> None:
    write_train_captions(tiny(), tmp_path)
    assert train_captions(tmp_path) == ["name 1"]
    assert Counter(train_captions())["grinning face"] >= 3
    assert len(train_captions()) == 19090


def test_share_alike_pictures_are_refused_and_what_stood_there_stays(tmp_path: Path) -> None:
    write(tiny(), "cal_render", tmp_path)
    with pytest.raises(InputFileError, match=VENDOR_SET):
        write(tiny(vendor=True), "cal_render", tmp_path)
    assert len(load("cal_render", tmp_path).entries) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["cal_render"]


def test_what_is_not_there_or_damaged(tmp_path: Path) -> None:
    for split in ("test_render", "../pictures/cal_render"):
        with pytest.raises(InputFileError, match="val_render and cal_render"):
            load(split)
    write(tiny(), "cal_render", tmp_path)
    (tmp_path / "cal_render" / "noto" / "1f600.webp").write_bytes(b"RIFF")
    with pytest.raises(InputFileError, match=r"1f600\.webp"):
        load("cal_render", tmp_path)


@pytest.mark.parametrize("split", SPLITS)
def test_shipped_split(split: str) -> None:
    found = load(split)
    assert found.pixels.shape == (SIZES[split], 96, 96, 3)
    assert len({entry.id for entry in found.entries}) == SIZES[split]
    assert {entry.set for entry in found.entries} <= {s.name for s in SETS} - {VENDOR_SET}
    assert all(entry.image.startswith(f"{entry.set}/{entry.cluster}") for entry in found.entries)
    assert all(caption == caption.lower().strip() != "" for caption in found.captions)
    files = {p.relative_to(FOLDER / split).as_posix() for p in (FOLDER / split).rglob("*.webp")}
    assert files == {entry.image for entry in found.entries}
    # A user's reader sees the same data set.
    same = examples.read(FOLDER / split)
    assert [(e.id, e.captions) for e in same] == [(e.image, (e.caption,)) for e in found.entries]


def test_splits_share_no_drawing_and_are_small() -> None:
    families = {s.name: s.family for s in SETS}
    drawn = [{(e.base, families[e.set]) for e in load(split).entries} for split in SPLITS]
    assert not drawn[0] & drawn[1]
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < 4_500_000


def test_shipped_pictures_are_those_of_the_recipe() -> None:
    try:
        data = read(default_cache())
    except InputFileError:
        pytest.skip("the sticker recipe has not been run here")
    for split in SPLITS:
        found, rows = load(split), data.rows(split)
        assert [e.id for e in found.entries] == [data.records[i].id for i in rows]
        apart = np.abs(found.pixels.astype(np.int16) - on_white(data.pixels[rows])).mean((1, 2, 3))
        assert apart.max() < 12


def test_the_notice_names_every_set_that_is_shipped() -> None:
    named = Counter(re.findall(r"\[([\w-]+)\]", (FOLDER.parent / "NOTICE").read_text(encoding="utf-8")))
    assert set(named) == {s.name for s in SETS} - {VENDOR_SET}
    shipped = {path.name for split in SPLITS for path in (FOLDER / split).iterdir() if path.is_dir()}
    assert shipped <= set(named)
    assert all(any(path.name.startswith(f"{name}-") for name in named) for path, _ in demo_pictures())
