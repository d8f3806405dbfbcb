"""Options that a command takes as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Command = Callable[..., Any]


def option_set(options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """A decorator that gives a command these options of click's, listed by `--help` in their order."""

    def give(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return give
