"""The pictures that a command's arguments name: files, folders, addresses, and what standard input holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TextIO

from mue_edge.errors import InputFileError, UsageError
from mue_edge.files import open_regular
from mue_edge.inputs.image import MAX_BYTES, SUFFIXES, NamedPicture, is_folder, kind_of, size_of

MAX_PATHS = 1_000_000
_SCHEMES = ("http", "https")


def gather(arguments: Iterable[str | Path], stdin: TextIO | None = None) -> list[Path | NamedPicture]:
    """Files as they are, folders' pictures by name, http(s) addresses; `-`: the picture, or the list of files
    and folders, on standard input.

    Nothing but standard input is read here: `load` reports each file that is missing, and a folder without
    pictures, under its name, so that the others are still processed. Raises InputFileError when there is
    nothing but empty folders, or nothing at all.
    """
    pictures: list[Path | NamedPicture] = []
    for argument in arguments:
        pictures += _named(str(argument), stdin)
        if len(pictures) > MAX_PATHS:
            raise InputFileError(f"more than {MAX_PATHS:,} pictures; give them in parts")
    if not pictures:
        raise InputFileError(
            "no picture was named: give files, folders, or '-' and a picture or a list on standard input"
        )
    empty = [path for path in pictures if isinstance(path, Path) and is_folder(path)]
    if len(empty) == len(pictures):
        names = ", ".join(map(str, empty))
        raise InputFileError(f"no picture ({', '.join(sorted(SUFFIXES))}) in the folder {names}")
    return pictures


def single_picture(argument: str) -> Path | NamedPicture:
    """The picture of an argument that takes one. Raises InputFileError for a list of several."""
    if argument != "-" and not is_address(argument):
        return Path(argument)
    pictures = _named(argument, None)
    if len(pictures) != 1:
        raise InputFileError(f"{len(pictures)} pictures on standard input; this takes one")
    return pictures[0]


def is_picture_argument(argument: str) -> bool:
    """Whether one of a command's arguments is for `gather`: "-", an address, a folder with pictures, or a
    file that is one by its first bytes or its name, so that a damaged one counts."""
    if argument == "-" or is_address(argument):
        return True
    path = Path(argument)
    if is_folder(path):
        return _pictures_in(path) != [path]
    try:
        with open_regular(path) as file:
            sized = size_of(file) > 0  # else it could block, as /proc/kmsg does
            return path.suffix.lower() in SUFFIXES or (sized and kind_of(file.read(12)) is not None)
    except (OSError, InputFileError):
        return False


def is_picture(data: bytes) -> bool | None:
    """Whether what standard input begins with is a picture; False: a list of files, None: neither. Some
    signatures could begin a file's name, but no name has the zero byte that every picture has."""
    if b"\0" not in data:
        return False
    return True if kind_of(data) else None


def unknown_input(what: str) -> InputFileError:
    """The error for standard input that is neither."""
    return InputFileError(
        f"{what} holds neither a picture (JPEG, PNG, WebP, GIF or BMP) nor a list of files, a line each"
    )


def _named(argument: str, stdin: TextIO | None) -> list[Path | NamedPicture]:
    if is_address(argument):
        from mue_edge.inputs.fetching import fetch

        return [NamedPicture(argument, partial(fetch, argument))]
    if argument != "-":
        return [*_pictures_in(Path(argument))]
    stream = sys.stdin if stdin is None else stdin
    if stream is None:
        raise UsageError("'-' is standard input, which is closed")
    data = stream.buffer.read(MAX_BYTES + 1)  # more is refused by `load`, with its reason
    picture = is_picture(data)
    if picture:
        return [NamedPicture("standard input", lambda: data)]
    if picture is None:
        raise unknown_input("standard input")
    lines = (line.rstrip(b"\r") for line in data.split(b"\n") if line.strip())
    return [path for line in lines for path in _pictures_in(Path(os.fsdecode(line)))]


def _pictures_in(path: Path) -> list[Path]:
    """A folder's pictures, or the path itself."""
    if not is_folder(path):
        return [path]
    try:
        files = sorted(path.iterdir())
    except OSError as problem:
        raise InputFileError(f"the folder {path} cannot be read: {problem.strerror}") from problem
    return [f for f in files if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")] or [path]


def is_address(argument: str) -> bool:
    """Whether an argument is an http or https address."""
    scheme, colon, _ = argument.partition("://")
    return bool(colon) and scheme.lower() in _SCHEMES
