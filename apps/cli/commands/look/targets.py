"""`mue-edge targets`: list the targets, and how far each was verified."""

from __future__ import annotations

from collections.abc import Iterator

import click

from mue_edge import schema, targets
from mue_edge.apps.cli.options.common import json_option
from mue_edge.apps.cli.terminal import print_result, table


@click.command("targets")
@json_option("All that is known, devices included.")
def command(as_json: bool) -> None:
    """List the targets: runtime, precisions, and the highest verification level reached.

    Levels, from the lowest: reference, graph, loop, build, device.
    """
    rows = [targets.target(name) for name in targets.names()]
    print_result(as_json, [schema.encode(t) for t in rows], _text(rows))


def _text(rows: list[targets.Target]) -> Iterator[str]:
    cells = [(t.name, t.runtime + t.versions, " ".join(t.precisions), t.rung, t.verified_on) for t in rows]
    yield from table([("target", "runtime", "precisions", "verified", "on"), *cells])
    for t in rows:
        yield f"\n{t.name}: {t.title}; needs: pip install 'mue-edge[{t.extra}]'"
        for name, device in t.devices.items():
            yield f"  {name}: {device.title}" + (f" ({device.notes})" if device.notes else "")
