"""The shipped pictures: what a bundled model's calibration reads, and errors."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mue_edge.apps.catalogue import bundled_pictures
from mue_edge.apps.stickers.shipped import FOLDER, SPLITS, load
from mue_edge.calibrate import examples
from mue_edge.errors import InputFileError, UsageError

SIZES = {"val_render": 415, "cal_render": 1398}


def test_what_is_not_there_or_damaged(tmp_path: Path) -> None:
    for split in ("test_render", "../pictures/cal_render"):
        with pytest.raises(InputFileError, match="val_render and cal_render"):
            load(split)
    shutil.copytree(FOLDER / "val_render", tmp_path / "val_render")
    first = load("val_render").entries[0].image
    (tmp_path / "val_render" / first).write_bytes(b"RIFF")
    with pytest.raises(InputFileError, match=re.escape(first)):
        load("val_render", tmp_path)
    with pytest.raises(UsageError, match="stickers"):
        bundled_pictures("faces", "cal_render")


@pytest.mark.parametrize("split", SPLITS)
def test_shipped_split(split: str) -> None:
    found = bundled_pictures("stickers", split)
    assert found.pixels.shape == (SIZES[split], 96, 96, 3)
    assert len({entry.id for entry in found.entries}) == SIZES[split]
    assert all(entry.image.startswith(f"{entry.set}/{entry.cluster}") for entry in found.entries)
    assert all(caption == caption.lower().strip() != "" for caption in found.captions)
    files = {p.relative_to(FOLDER / split).as_posix() for p in (FOLDER / split).rglob("*.webp")}
    assert files == {entry.image for entry in found.entries}
    # A user's reader sees the same data set.
    same = examples.read(FOLDER / split)
    assert [(e.id, e.captions) for e in same] == [(e.image, (e.caption,)) for e in found.entries]


def test_no_torch_is_needed() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['resvg_py'] = None\n"
        "from mue_edge.apps.catalogue import bundled_pictures\n"
        "print(len(bundled_pictures('stickers', 'val_render').captions))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["415"]
