"""Options that a command takes as one value: the fields of a frozen dataclass, each declared once."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import Field, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

from mue_edge.errors import InputFileError, UsageError

Result = TypeVar("Result")
Command = Callable[..., Any]
_DECORATOR, _OPTION = "decorator", "option"


def option(help: str | None = None, *names: str, **settings: Any) -> Any:
    """A field that is an option of click's: `--FIELD` of its type, unless names or settings say otherwise."""
    return field(metadata={_OPTION: (names, settings | {"help": help})})


def shared(declaration: Callable[[Command], Command]) -> Any:
    """A field that is this option, or argument, of click's, which other commands may have too."""
    return field(metadata={_DECORATOR: declaration})


def takes(kind: Callable[..., Any]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """A decorator that gives a command the options of a dataclass, in the fields' order, and calls it with an
    instance of the dataclass."""
    hints = get_type_hints(kind)

    def give(command: Callable[..., Result]) -> Callable[..., Result]:
        result: Callable[..., Result] = functools.wraps(command)(lambda **options: command(kind(**options)))
        for each in reversed(fields(kind)):  # type: ignore[arg-type]
            result = (each.metadata.get(_DECORATOR) or _declaration(each, hints[each.name]))(result)
        return result

    return give


def _declaration(each: Field[Any], hint: Any) -> Callable[[Command], Command]:
    """A field's option: a flag for a bool, a choice for a literal, several values for a tuple."""
    names, settings = each.metadata[_OPTION]
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    several, literal = get_origin(hint) is tuple, get_origin(hint) is Literal
    kind = hint if literal or not kinds else kinds[0]
    derived: dict[str, Any] = {"type": click.Path(path_type=Path) if kind is Path else kind}
    if literal:
        derived["type"] = click.Choice(kinds)
    if kind is bool and not any("/" in name for name in names):
        derived = {"is_flag": True}
    flags = names or (f"--{each.name.replace('_', '-')}",)
    return click.option(*flags, each.name, multiple=several, **derived | settings)


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
