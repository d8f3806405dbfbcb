"""`mue-edge inspect`: show what a bundle holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from mue_edge.apps.cli.options.common import bundle_argument, json_option

if TYPE_CHECKING:
    from mue_edge.bundle.manifest import Manifest, Port


@click.command("inspect")
@bundle_argument
@json_option("The manifest as JSON.")
def command(bundle: str, as_json: bool) -> None:
    """Show a BUNDLE's model, plan, segments, policies, search settings and evidence."""
    from mue_edge import schema
    from mue_edge.apps.cli.default_bundle import bundle_folder
    from mue_edge.bundle.folder import open_bundle

    manifest = open_bundle(bundle_folder(bundle)).manifest
    if as_json:
        click.echo(json.dumps(schema.encode(manifest), indent=1))
    else:
        click.echo("\n".join([*_head(manifest), "", *_segments(manifest), "", *_policies(manifest)]))


def _head(m: Manifest) -> list[str]:
    size = sum(entry.bytes for entry in m.files.values())
    plan = ", ".join(f"{k} {_short(v)}" for k, v in m.plan.items())
    search = ", ".join(f"{k} {v}" for k, v in vars(m.search).items())
    p, e = m.preprocess, m.evidence
    figures = "".join(f"\n              {k} {v:g}" for k, v in e.figures.items())
    versions = ", ".join(f"{k} {v}" for k, v in e.versions.items())
    return [
        f"bundle        {m.name}: {m.family}, task {m.task}, schema {m.schema}",
        f"model         {m.model.get('parameters', 0):,} parameters, hash {m.model.get('sha256', '')!s:.16}",
        f"target        {m.target}, {m.precision}, runtime {m.runtime.name}{m.runtime.versions}",
        f"files         {len(m.files)}, {size / 1e6:.2f} MB",
        f"plan          {m.plan_hash}: {plan}",
        f"picture       {p.width} x {p.height}, (x - {_scale(p.mean)}) / {_scale(p.std)}",
        f"prompt        {m.prompt!r}",
        *([f"with caption  {m.caption_prompt!r}"] if m.caption_prompt else []),
        *([f"knows         {m.knows}"] if m.knows else []),
        f"search        {search}",
        f"evidence      {e.rung} ({versions}){figures}",
    ]


def _scale(channels: tuple[float, ...]) -> str:
    return f"{channels[0]:g}" if len(set(channels)) == 1 else f"[{_short(channels)}]"


def _short(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{k} {_short(v)}" for k, v in value.items())
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _segments(m: Manifest) -> list[str]:
    """Segments that share weights refer to the same bytes, so the column adds up to more than the files."""
    rows = [("segment", "layers", "weights", "inputs -> outputs")]
    for name, s in m.segments.items():
        layers = "" if not s.last else str(s.last) if s.last == s.first + 1 else f"{s.first + 1}-{s.last}"
        ports = f"{_ports(s.inputs)} -> {_ports(s.outputs)}"
        rows.append((name, layers, f"{s.weight_bytes / 1e6:.2f} MB", ports))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _ports(ports: Mapping[str, Port]) -> str:
    return " ".join(f"{name}{_shape(port)}" for name, port in ports.items())


def _shape(port: Port) -> str:
    kind = "" if port.dtype == "float32" else f":{port.dtype}"
    return f"[{','.join(map(str, port.shape))}]{kind}"


def _policies(m: Manifest) -> list[str]:
    lines = ["policies, from the fastest to full depth (* is used when none is named)"]
    for entry in m.front:
        star = "*" if entry["name"] == m.chosen else " "
        rest = ", ".join(f"{k} {v}" for k, v in entry.items() if k not in ("name", "plan"))
        lines.append(f" {star} {entry['name']}: {rest}")
    return lines
