"""`mue-edge build`: make a bundle's engines on the device that will run them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from mue_edge import targets
from mue_edge.apps.cli.options.common import POSITIVE, bundle_argument, json_option
from mue_edge.apps.cli.terminal import bar, print_result
from mue_edge.bundle.folder import open_bundle
from mue_edge.errors import UsageError, command_line


@click.command("build")
@bundle_argument
@click.option("--force", is_flag=True, help="Also what is there already.")
@click.option("--workspace", type=POSITIVE, metavar="MB", help="Most memory that a layer may use.")
@json_option("What was made, as JSON.")
def command(bundle: str, force: bool, workspace: int | None, as_json: bool) -> None:
    """Build the engines of a BUNDLE on the device that will run it. They go to your cache folder.

    An engine fits one TensorRT, one GPU and one driver: when one of them changes, build again. A build that
    was stopped goes on where it was.
    """
    opened = open_bundle(bundle)
    target = opened.manifest.target
    build = getattr(importlib.import_module(targets.module_name(target)), "build", None)
    if build is None:
        raise UsageError(f"bundles for {target} need no build; next: {command_line('caption', opened.path, 'PICTURE')}")
    first = iter((0,))
    with bar("engines", len(opened.manifest.segments)) as step:  # the builder calls it before each segment
        engines = build(opened, force, workspace and workspace << 20, lambda name: step(next(first, 1), name))
        step()
    record = {"bundle": str(opened.path), "engines": [vars(e) for e in engines]}
    print_result(as_json, record, _text(opened.path, engines))


def _text(bundle: Path, engines: Sequence[Any]) -> Iterator[str]:
    for engine in engines:
        time = f"{engine.seconds:7.1f} s" if engine.seconds else "was there"
        yield f"  {engine.segment:<14}{engine.bytes / 1e6:9.2f} MB  {time}"
    seconds, size = sum(e.seconds for e in engines), sum(e.bytes for e in engines)
    fresh = sum(e.seconds > 0 for e in engines)
    yield f"{fresh} of {len(engines)} engines built in {seconds:.1f} s, {size / 1e6:.1f} MB"
    yield f"next: {command_line('verify', bundle, '--device')}"
