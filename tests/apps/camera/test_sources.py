"""Folders, streams of paths, and what an argument names."""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from mue_edge.apps.camera import sources
from mue_edge.apps.camera.slot import Newest
from mue_edge.apps.camera.sources import Folder, Piped
from mue_edge.errors import InputFileError, UsageError
from mue_edge.inputs import image
from tests.apps.camera.made import Every, run_whole, until
from tests.apps.cli.run import picture


def test_a_folder_that_is_being_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "POLL_SECONDS", 0.05)
    folder, store = tmp_path / "in", tmp_path / "store"
    folder.mkdir()
    store.mkdir()
    whole = picture(store / "whole.png", 3).read_bytes()
    for i, name in enumerate(("old.png", "newest.png")):
        picture(folder / name, i)
        os.utime(folder / name, (i, i))
    slot, stop = Every(), threading.Event()
    thread = Folder(folder).start(slot, stop)
    until(lambda: slot.seen == 1)
    growing = (folder / "growing.png").open("wb")
    for i in range(8):  # written slowly: seen once, whole
        growing.write(whole[i * len(whole) // 8 : (i + 1) * len(whole) // 8])
        growing.flush()
        time.sleep(0.02)
    growing.close()
    until(lambda: slot.seen >= 2 and image.load(slot.frames[-1].read()) is not None)
    shutil.copy(store / "whole.png", folder / ".hidden.png")
    (folder / "note.txt").write_text("no picture")
    picture(folder / "old.png", 9)  # changed: it is new again
    until(lambda: slot.frames[-1].name == "old.png")
    names = [frame.name for frame in slot.frames]
    assert names[0] == "newest.png" and set(names) == {"newest.png", "growing.png", "old.png"}
    shutil.rmtree(folder)
    thread.join(30)
    assert isinstance(slot.problem, InputFileError) and "was lost" in str(slot.problem)


def test_paths_on_a_stream() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stream, os.fdopen(writing, "wb") as out:
        out.write(b"a.png\r\n\nb \xff.png\nlast")
        out.close()
        slot = run_whole(Piped(stream))
    assert [f.name for f in slot.frames] == ["a.png", os.fsdecode(b"b \xff.png"), "last"]


def test_a_stream_that_says_nothing_can_be_left() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stream, os.fdopen(writing, "wb") as out:
        stop = threading.Event()
        thread = Piped(stream).start(Newest(), stop)
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
        slot = Newest()
        out.write(b"x" * 10_000)
        out.flush()
        Piped(stream).start(slot, threading.Event()).join(30)
        assert isinstance(slot.problem, InputFileError)


def test_what_an_argument_names(tmp_path: Path) -> None:
    assert isinstance(sources.choose(str(tmp_path), io.StringIO()), Folder)
    assert isinstance(sources.choose("-", io.StringIO()), Piped)
    with pytest.raises(UsageError, match="mue-edge caption"):
        sources.choose(str(picture(tmp_path / "a.png")), io.StringIO())
    with pytest.raises(InputFileError, match="video file"):
        sources.choose(str(tmp_path / "none"), io.StringIO())
