"""The entry point `mue-edge`: runs a command, and turns errors into one line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, NoReturn, TextIO

import click

import mue_edge
from mue_edge.apps.cli.group import LazyGroup
from mue_edge.apps.cli.terminal import make_legible
from mue_edge.errors import EnvironmentLacksError, MueEdgeError

# What a file that cannot grow gives.
_FULL = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EBADF")}


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True},
)
@click.version_option(mue_edge.__version__, prog_name="mue-edge")
def group() -> None:
    """Run OFA/MuE vision-language models on devices, leaving early where the hidden state stops changing."""


def main(args: list[str] | None = None) -> None:
    """Entry point; mistakes, and what the system refuses, end in one line on stderr and an exit code."""
    make_legible(sys.stdout, sys.stderr)
    try:
        code: Any = group.main(args, prog_name="mue-edge", standalone_mode=False)
        if sys.stdout is not None:  # closed by the shell: >&-
            sys.stdout.flush()  # a full disk may show here
    except click.ClickException as problem:
        problem.show()
        sys.exit(2)
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:  # `mue-edge caption … | head`: the reader has what it wanted
        _discard(sys.stdout)
        sys.exit(141)
    except MueEdgeError as problem:
        click.echo(f"error: {problem}", err=True)
        sys.exit(problem.exit_code)
    except OSError as problem:
        _refused(problem)
    sys.exit(code if isinstance(code, int) else 0)


def _refused(problem: OSError) -> NoReturn:
    """End with what the system did not do: the path, if it is known, and why."""
    why, name = problem.strerror or str(problem), problem.filename
    if name is None and problem.errno in _FULL:
        name = "standard output, or a temporary file"
    line = "error: " + (why if name is None else f"{name}: {why}")
    for stream, text in ((sys.stdout, ""), (sys.stderr, line)):
        try:
            click.echo(text, file=stream, nl=bool(text))
        except OSError:  # Python would try again, and complain, when it ends
            _discard(stream)
    sys.exit(EnvironmentLacksError.exit_code)


def _discard(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
