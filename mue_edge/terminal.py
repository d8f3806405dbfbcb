"""What commands say on standard error while they work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


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
