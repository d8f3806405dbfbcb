"""`mue-edge list`: list bundled models, and the bundles and model folders here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mue_edge.apps.cli.options.common import json_option
from mue_edge.apps.cli.terminal import print_result, table
from mue_edge.errors import InputFileError

if TYPE_CHECKING:
    from mue_edge.apps.cli.at_hand import AtHand, ListedBundle, ListedModel

BUNDLE_COLUMNS = ("bundle", "model", "task", "target", "precision", "picture", "size", "policy", "evidence")


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
    searched = folders or (Path(),)
    result = survey(searched)
    print_result(as_json, asdict(result), _text(result, ", ".join(map(str, searched))))


def _text(result: AtHand, searched: str) -> Iterator[str]:
    bundled = [(b.name, _megabytes(b.bytes), b.title, b.use) for b in result.bundled]
    yield from table([("bundled model", "size", "what it does", "command"), *bundled])
    bundles = [
        (b.path, b.name, b.task, b.target, b.precision, b.picture, _megabytes(b.bytes), b.policy, b.evidence)
        for b in result.bundles
        if not b.problem
    ]
    models = [
        (
            *(m.path, m.family, m.layers, f"{m.parameters / 1e6:.1f} M"),
            *(_megabytes(m.bytes), m.picture, ", ".join(m.tasks)),
        )
        for m in result.models
        if not m.problem
    ]
    folders: list[ListedBundle | ListedModel] = [*result.bundles, *result.models]
    damaged = {folder.path: folder.problem for folder in folders if folder.problem}
    if bundles:
        yield from ("", *table([BUNDLE_COLUMNS, *bundles]))
    if models:
        columns = ("model folder", "family", "layers", "parameters", "size", "picture", "tasks")
        yield from ("", *table([columns, *models]))
    if damaged:
        yield from ("", *(f"damaged: {path}: {problem}" for path, problem in damaged.items()))
    if not folders:
        yield f"\nno bundle and no model folder in {searched}, and no bundle in your cache; make one with:"
        yield "  mue-edge export stickers                        a bundle of a bundled model"
        yield "  mue-edge import CHECKPOINT --out FOLDER         a model folder of a checkpoint"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
