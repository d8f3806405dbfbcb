"""Options that a command takes as one value: the fields of a frozen dataclass, each declared once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import Field, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

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
