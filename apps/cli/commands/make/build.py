"""`mue-edge build`: make a bundle's engines on the device that will run them."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from mue_edge.apps.cli.options.common import bundle_argument, json_option
from mue_edge.errors import command_line


@click.command("build")
@bundle_argument
@click.option("--force", is_flag=True, help="Also what is there already.")
@click.option("--workspace", type=click.IntRange(1), metavar="MB", help="Most memory that a layer may use.")
@json_option("What was made, as JSON.")
def command(bundle: str, force: bool, workspace: int | None, as_json: bool) -> None:
    """Build the engines of a BUNDLE on the device that will run it. They go to your cache folder.

    An engine fits one TensorRT, one GPU and one driver: when one of them changes, build again. A build that
    was stopped goes on where it was.
    """
    from mue_edge import targets
    from mue_edge.bundle.folder import open_bundle
    from mue_edge.errors import UsageError

    opened = open_bundle(bundle)
    target = opened.manifest.target
    module = importlib.import_module(targets.module_name(target))
    make = getattr(module, "build", None)
    if make is None:
        raise UsageError(
            f"bundles for {target} need no build; next: {command_line('caption', opened.path, 'PICTURE')}"
        )
    with _progress(len(opened.manifest.segments)) as progress:
        made = make(opened, force, workspace and workspace << 20, progress)
    seconds, size = sum(e.seconds for e in made), sum(e.bytes for e in made)
    fresh = sum(e.seconds > 0 for e in made)
    if as_json:
        click.echo(json.dumps({"bundle": str(opened.path), "engines": [vars(e) for e in made]}, indent=1))
        return
    for engine in made:
        how = f"{engine.seconds:7.1f} s" if engine.seconds else "was there"
        click.echo(f"  {engine.segment:<14}{engine.bytes / 1e6:9.2f} MB  {how}")
    click.echo(f"{fresh} of {len(made)} engines built in {seconds:.1f} s, {size / 1e6:.1f} MB")
    click.echo(f"next: {command_line('verify', opened.path, '--device')}")


@contextmanager
def _progress(length: int) -> Iterator[Callable[[str], object]]:
    """What to call before each segment: a bar on a terminal's standard error, silent elsewhere."""
    if not sys.stderr.isatty():
        yield lambda segment: None
        return
    with click.progressbar(
        length=length, label="engines", file=sys.stderr, item_show_func=lambda item: item or ""
    ) as bar:
        begun = False

        def show(segment: str) -> None:
            nonlocal begun
            bar.update(int(begun), segment)
            begun = True

        yield show
        bar.update(1)
