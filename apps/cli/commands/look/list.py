"""`mue-edge list`: list bundled models, and the bundles and model folders here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mue_edge.apps.cli.options.common import json_option
from mue_edge.errors import InputFileError

if TYPE_CHECKING:
    from mue_edge.apps.cli.at_hand import AtHand


@click.command("list")
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@json_option("The same as JSON.")
def command(folders: tuple[Path, ...], as_json: bool) -> None:
    """List bundled models, and the bundles and model folders that FOLDERS are, or hold.

    Without FOLDERS: in the current folder. Bundles that are kept in your cache are listed too. Only manifests
    and configurations are read: mue-edge verify BUNDLE reads everything.
    """
    from mue_edge.apps.cli.at_hand import survey

    for folder in folders:
        if not folder.is_dir():
            raise InputFileError(f"{folder} is no folder; the command is: mue-edge list FOLDER")
    looked = folders or (Path(),)
    found = survey(looked)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=1))
        return
    click.echo("\n".join(_text(found, ", ".join(map(str, looked)))))


def _text(found: AtHand, looked: str) -> Iterator[str]:
    bundles, models = found.bundles, found.models
    yield from _table(
        ("bundled model", "size", "what it does", "command"),
        [(b.name, _megabytes(b.bytes), b.title, b.use) for b in found.bundled],
    )
    if bundles:
        yield ""
        yield from _table(
            ("bundle", "model", "task", "target", "precision", "picture", "size", "policy", "evidence"),
            [
                (b.path, b.name, b.task, b.target, b.precision, b.picture, _megabytes(b.bytes), b.policy,
                 b.evidence) for b in bundles if not b.problem
            ],
        )  # fmt: skip
    if models:
        yield ""
        yield from _table(
            ("model folder", "family", "layers", "parameters", "size", "picture", "tasks"),
            [
                (m.path, m.family, m.layers, f"{m.parameters / 1e6:.1f} M", _megabytes(m.bytes), m.picture,
                 ", ".join(m.tasks)) for m in models if not m.problem
            ],
        )  # fmt: skip
    problems = {one.path: one.problem for one in bundles} | {one.path: one.problem for one in models}
    damaged = [f"damaged: {path}: {problem}" for path, problem in problems.items() if problem]
    yield from ("", *damaged) if damaged else ()
    if not bundles and not models:
        yield f"\nno bundle and no model folder in {looked}, and no bundle in your cache; make one with:"
        yield "  mue-edge export stickers                        a bundle of a bundled model"
        yield "  mue-edge import CHECKPOINT --out FOLDER         a model folder of a checkpoint"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Columns as wide as they need be; nothing without rows."""
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    for row in (head, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
