"""One family of errors, each with an exit code, what was wrong and the next command.

Exit codes: 2 usage, 3 cannot be met, 4 bad input file, 5 environment lacks something,
6 verification failed.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable


class MueEdgeError(Exception):
    """Base of every error that a user can cause or cure; `exit_code` is the process's."""

    exit_code = 1


class UsageError(MueEdgeError):
    """A command or call was given something that it does not take."""

    exit_code = 2


class CannotBeMetError(MueEdgeError):
    """The request is sound but out of reach (a budget below the fastest policy)."""

    exit_code = 3


class InputFileError(MueEdgeError):
    """A file that came from outside is missing, damaged, too large or not what it says."""

    exit_code = 4


class EnvironmentLacksError(MueEdgeError):
    """A package, tool or device that this command needs is not here."""

    exit_code = 5


class VerificationError(MueEdgeError):
    """Something that was computed does not equal what it must equal."""

    exit_code = 6


def command_line(*words: object) -> str:
    """A command of mue-edge to type: each word comes out as one, whatever spaces and quotes are in it."""
    parts = ["mue-edge", *map(str, words)]
    if os.name == "nt":
        import subprocess

        return subprocess.list2cmdline(parts)
    return shlex.join(parts)


def suggestion(word: str, known: Iterable[str]) -> str:
    """What to add to an error about an unknown word: the known one that looks most like it, if any does."""
    import difflib

    close = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def missing_extra(package: str, extra: str) -> EnvironmentLacksError:
    """The error for an optional dependency that is not installed."""
    return EnvironmentLacksError(
        f"{package} is not installed; it comes with the extra {extra!r}: pip install 'mue-edge[{extra}]'"
    )
