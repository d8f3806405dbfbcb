"""The pictures of a folder, each by its path from there; nothing that a link brings in from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mue_edge.errors import InputFileError
from mue_edge.inputs.gathering import MAX_PATHS
from mue_edge.inputs.image import SUFFIXES


def pictures(folder: Path, *, recursive: bool = False) -> dict[str, Path]:
    """Path from the folder, with slashes → file, by name. Hidden files and folders are left out.

    Raises InputFileError if there is none.
    """
    inside = folder.resolve()
    files: dict[str, Path] = {}
    for path in _files(folder, recursive):
        if path.suffix.lower() in SUFFIXES and path.resolve().is_relative_to(inside):
            files[path.relative_to(folder).as_posix()] = path
            if len(files) > MAX_PATHS:
                raise InputFileError(f"more than {MAX_PATHS:,} pictures in {folder}; do them in parts")
    if not files:
        deeper = "" if recursive else "; to look into its folders too: --recursive"
        raise InputFileError(f"no picture ({', '.join(sorted(SUFFIXES))}) in the folder {folder}{deeper}")
    return files


def _files(folder: Path, recursive: bool) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as problem:
        raise InputFileError(f"the folder {folder} cannot be read: {problem.strerror}") from problem
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if recursive and not path.is_symlink():
                yield from _files(path, recursive)
        elif path.is_file():
            yield path
