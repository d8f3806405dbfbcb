"""What commands say on standard error while they work, in characters that the terminal knows."""

from __future__ import annotations

import codecs
import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

# What stands for a character that an encoding lacks; others become "?".
STAND_INS = {
    "█": "#", "·": ".", "…": "...", "→": "->", "−": "-", "–": "-", "×": "x", "≠": "!=", "≤": "<=", "≥": ">=",
    "±": "+-", "µ": "u", "²": "^2", "β": "beta", "τ": "tau", "θ": "theta", "Θ": "Theta",
}  # fmt: skip
_LEGIBLE = "mue_edge.legible"


def make_legible(*streams: object) -> None:
    """Let text streams write stand-ins for what their encoding lacks, and file names' bytes as they are."""
    codecs.register_error(_LEGIBLE, _stand_in)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_LEGIBLE)


def _stand_in(problem: UnicodeError) -> tuple[bytes, int]:
    assert isinstance(problem, UnicodeEncodeError)
    lacking = problem.object[problem.start : problem.end]
    return b"".join(map(_bytes, lacking)), problem.end


def _bytes(character: str) -> bytes:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is no UTF-8
        return bytes([ord(character) - 0xDC00])
    return STAND_INS.get(character, "?").encode("ascii")


def say(text: str) -> None:
    """A line."""
    click.echo(text, err=True)


@contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[], None]]:
    """What to call after each of `length` steps: a bar on a terminal, elsewhere a line with the time that it
    all took."""
    if sys.stderr.isatty():
        with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
            yield lambda: bar.update(1)
        return
    begin = time.monotonic()
    yield lambda: None
    say(f"{label}: {length} in {time.monotonic() - begin:.0f} s")


def export_progress() -> Callable[[str, int, int], None] | None:
    """A line on a terminal's standard error that says what an export is doing; None elsewhere."""
    if not sys.stderr.isatty():
        return None

    def show(what: str, done: int, total: int) -> None:
        share = f"{done + 1}/{total} " if total > 1 else ""
        click.echo(f"\r\x1b[K{share}{what}", nl=False, err=True)
        if what == "verifying":
            click.echo("\r\x1b[K", nl=False, err=True)

    return show
