"""What commands print while they work and at the end, in characters that the terminal knows."""

from __future__ import annotations

import codecs
import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    pass

# What stands for a character that an encoding lacks; others become "?".
STAND_INS = {
    "█": "#", "·": ".", "…": "...", "→": "->", "−": "-", "–": "-", "×": "x", "≠": "!=", "≤": "<=", "≥": ">=",
    "±": "+-", "µ": "u", "²": "^2", "β": "beta", "τ": "tau", "θ": "theta", "Θ": "Theta",
}  # fmt: skip
_LEGIBLE = "mue_edge.legible"
Item = TypeVar("Item")


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
    """A line on standard error."""
    click.echo(text, err=True)


def print_result(as_json: bool, record: object, lines: Iterable[str]) -> None:
    """Print a record as JSON, or its lines of text, which are made only then."""
    click.echo(json.dumps(record, indent=1) if as_json else "\n".join(lines))


def table(rows: Sequence[Sequence[str]], right: bool = False) -> list[str]:
    """Lines of columns that are as wide as they need be; right: all but the first are aligned there."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            cell.rjust(width) if right and i else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


@contextmanager
def bar(label: str, length: int) -> Iterator[Callable[..., None]]:
    """What to call with a number of steps done (1) and a word about the current one: a bar on a terminal's
    standard error, silent elsewhere."""
    if not sys.stderr.isatty():
        yield lambda steps=1, word="": None
        return
    with click.progressbar(
        length=length, label=label, file=sys.stderr, item_show_func=lambda word: word or ""
    ) as shown:
        yield lambda steps=1, word="": shown.update(steps, word)


def with_bar(label: str) -> Callable[[Sequence[Item]], Iterator[Item]]:
    """A function that passes on the items of a sequence, with such a bar."""

    def items(sequence: Sequence[Item]) -> Iterator[Item]:
        with bar(label, len(sequence)) as step:
            for item in sequence:
                yield item
                step()

    return items


@contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[], None]]:
    """What to call after each of `length` steps: a bar on a terminal, elsewhere a line with the time that it
    all took."""
    begin = time.monotonic()
    with bar(label, length) as step:
        yield step
    if not sys.stderr.isatty():
        say(f"{label}: {length} in {time.monotonic() - begin:.0f} s")


def export_progress() -> Callable[[str, int, int], None] | None:
    """A line on a terminal's standard error that says what an export is doing; None elsewhere."""
    if not sys.stderr.isatty():
        return None

    def show(what: str, done: int, total: int) -> None:
        click.echo("\r\x1b[K" if done == total else f"\r\x1b[K{done / total:4.0%} {what}", nl=False, err=True)

    return show
