"""Types of options: files to write and to read, and shares."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from mue_edge.errors import InputFileError, UsageError


class NewFile(click.Path):
    """A file to write. That its folder is there is found out before anything is computed."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        option = param.opts[0] if param else "file"
        if not path.parent.is_dir():
            raise UsageError(f"{option} {path}: there is no folder {path.parent}")
        if not os.access(path.parent, os.W_OK):
            raise UsageError(f"{option} {path}: nothing can be written to the folder {path.parent}")
        return path


class Existing(click.Path):
    """A file or folder to read. That it is there is found out before anything heavy is loaded."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        check_exists(path, param.opts[0] if isinstance(param, click.Option) else "")
        return path


def check_exists(path: Path, option: str = "") -> None:
    """Raises InputFileError for a path that does not exist; `option` names it."""
    try:
        exists = path.exists()
    except (OSError, ValueError):  # a name that no file can have
        exists = False
    if not exists:
        raise InputFileError(f"{option} {path} does not exist".lstrip())


def parse_share(option: str, text: str) -> float:
    """`3%` or `0.03`. Raises UsageError for what is no share between 0 and 1."""
    try:
        value = float(text.strip().removesuffix("%")) / (100 if "%" in text else 1)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise UsageError(f"{option} {text!r} is no share between 0 and 1; write for instance 3% or 0.03")
    return value
