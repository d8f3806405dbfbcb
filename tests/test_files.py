"""Folders and files appear whole or not at all."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from mue_edge.errors import UsageError
from mue_edge.files import atomic_folder, atomic_write, read_at_most


def test_an_error_leaves_what_existed_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_folder(target, "mark") as work:
        (work / "mark").write_text("first")
    with pytest.raises(RuntimeError), atomic_folder(target, "mark") as work:
        (work / "mark").write_text("second")
        raise RuntimeError
    assert (target / "mark").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_success_replaces_a_folder_of_the_same_kind_only(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for text in ("first", "second"):
        with atomic_folder(target, "mark") as work:
            (work / "mark").write_text(text)
    assert (target / "mark").read_text() == "second"
    other = tmp_path / "home"
    other.mkdir()
    (other / "letter").write_text("dear")
    with pytest.raises(UsageError, match="other things"), atomic_folder(other, "mark"):
        pass
    assert (other / "letter").read_text() == "dear"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "out"]


def test_atomic_write_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_write(path, "one")
    atomic_write(path, b"two")
    assert path.read_bytes() == b"two" and len(list(tmp_path.iterdir())) == 1


def test_reading_takes_no_more_memory_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"abcdef")
    tracemalloc.start()
    assert read_at_most(tmp_path / "small", 64 << 20) == b"abcdef"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert read_at_most(tmp_path / "small", 4) == b"abcd"
