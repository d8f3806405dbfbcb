"""`mue-edge targets`: list the targets, and how far each was verified."""

from __future__ import annotations

import json

import click

from mue_edge.apps.cli.options.common import json_option


@click.command("targets")
@json_option("All that is known, devices included.")
def command(as_json: bool) -> None:
    """List the targets: runtime, precisions, and the highest rung of verification reached.

    Rungs, from the lowest: reference, graph, loop, build, device.
    """
    from mue_edge import schema, targets

    found = [targets.target(name) for name in targets.names()]
    if as_json:
        click.echo(json.dumps([schema.encode(t) for t in found], indent=1))
        return
    rows = [("target", "runtime", "precisions", "verified", "on")]
    rows += [(t.name, t.runtime + t.versions, " ".join(t.precisions), t.rung, t.verified_on) for t in found]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    for t in found:
        click.echo(f"\n{t.name}: {t.title}; needs: pip install 'mue-edge[{t.extra}]'")
        for name, device in t.devices.items():
            click.echo(f"  {name}: {device.title}" + (f" ({device.notes})" if device.notes else ""))
