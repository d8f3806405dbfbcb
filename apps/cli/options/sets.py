"""Options that a command takes as one value: the fields of a frozen dataclass, each declared once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import field, fields
from typing import Any, TypeVar

import click

Result = TypeVar("Result")
Command = Callable[..., Any]
_DECORATOR = "click"


def option(*names: str, **settings: Any) -> Any:
    """A field that is this option of click's; its name there is the field's."""
    return shared(click.option(*names, **settings))


def shared(declaration: Callable[[Command], Command]) -> Any:
    """A field that is this option, or argument, of click's, which other commands may have too."""
    return field(metadata={_DECORATOR: declaration})


def takes(kind: Callable[..., Any]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """A decorator that gives a command the options of a dataclass, in the fields' order, and calls it with an
    instance of the dataclass."""

    def give(command: Callable[..., Result]) -> Callable[..., Result]:
        @functools.wraps(command)
        def called(**options: Any) -> Result:
            return command(kind(**options))

        result: Callable[..., Result] = called
        for each in reversed(fields(kind)):  # type: ignore[arg-type]
            result = each.metadata[_DECORATOR](result)
        return result

    return give
