"""Text and JSON of files that come from outside: small enough, sound, and with numbers that fit. Standard
library only."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from mue_edge.errors import InputFileError
from mue_edge.files import read_at_most

MAX_FILE_BYTES = 64 << 20
MAX_DIGITS = 19  # of a whole number: what fits 64 bits


def is_file(path: str | Path) -> bool:
    """Whether a file is there; also of names that no file can have."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def read_text(path: str | Path, most: int = MAX_FILE_BYTES) -> str:
    """UTF-8 text of a file of at most so many bytes. Raises InputFileError, which names the file."""
    path = Path(path)
    try:
        if not path.is_file():
            raise InputFileError(f"{path} is not there, or not a file")
        data = read_at_most(path, most + 1)
        if len(data) > most:
            raise InputFileError(f"{path} is larger than {most >> 20} MiB")
        return data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise InputFileError(f"{path} is not UTF-8 text") from problem
    except OSError as problem:
        raise InputFileError(f"{str(path)[:200]} cannot be read: {problem.strerror}") from problem


def read_json(path: str | Path, most: int = MAX_FILE_BYTES) -> Any:
    """JSON of a file of at most so many bytes. Raises InputFileError, which names the file."""
    return parse_json(read_text(path, most), str(path))


def parse_json(text: str, where: str) -> Any:
    """What a JSON text says. Raises InputFileError, of `where`, for one that is none, is nested too deep, or
    has a whole number that no 64 bits hold."""

    def whole(digits: str) -> int:
        if len(digits.removeprefix("-")) > MAX_DIGITS:
            raise InputFileError(f"{where} holds a whole number of {len(digits)} digits; {MAX_DIGITS} fit")
        return int(digits)

    try:
        return json.loads(text, parse_int=whole)
    except ValueError as problem:
        raise InputFileError(f"{where} is not JSON: {problem}") from problem
    except RecursionError as problem:
        raise InputFileError(f"{where} is nested too deep") from problem


def finite(value: float) -> bool:
    """Whether a number is one that float64 holds; whole numbers can be larger."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
