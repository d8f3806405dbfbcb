"""`mue-edge inspect`: show what a bundle holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

from mue_edge import schema
from mue_edge.apps.cli.default_bundle import bundle_folder
from mue_edge.apps.cli.options.common import bundle_argument, json_option
from mue_edge.apps.cli.terminal import print_result, table
from mue_edge.bundle.folder import open_bundle
from mue_edge.bundle.manifest import Manifest, Port


@click.command("inspect")
@bundle_argument
@json_option("The manifest as JSON.")
def command(bundle: str, as_json: bool) -> None:
    """Show a BUNDLE's model, plan, segments, policies, search settings and evidence."""
    manifest = open_bundle(bundle_folder(bundle)).manifest
    print_result(as_json, schema.encode(manifest), _text(manifest))


def _text(m: Manifest) -> Iterator[str]:
    size = sum(entry.bytes for entry in m.files.values())
    plan = ", ".join(f"{k} {_short(v)}" for k, v in m.plan.items())
    search = ", ".join(f"{k} {v}" for k, v in vars(m.search).items())
    p, e = m.preprocess, m.evidence
    figures = "".join(f"\n              {k} {v:g}" for k, v in e.figures.items())
    versions = ", ".join(f"{k} {v}" for k, v in e.versions.items())
    yield f"bundle        {m.name}: {m.family}, task {m.task}, schema {m.schema}"
    yield f"model         {m.model.get('parameters', 0):,} parameters, hash {m.model.get('sha256', '')!s:.16}"
    yield f"target        {m.target}, {m.precision}, runtime {m.runtime.name}{m.runtime.versions}"
    yield f"files         {len(m.files)}, {size / 1e6:.2f} MB"
    yield f"plan          {m.plan_hash}: {plan}"
    yield f"picture       {p.width} x {p.height}, (x - {_scale(p.mean)}) / {_scale(p.std)}"
    yield f"prompt        {m.prompt!r}"
    if m.caption_prompt:
        yield f"with caption  {m.caption_prompt!r}"
    if m.knows:
        yield f"knows         {m.knows}"
    yield f"search        {search}"
    yield f"evidence      {e.rung} ({versions}){figures}"
    yield from ("", *_segments(m), "")
    yield "policies, from the fastest to full depth (* is used when none is named)"
    for entry in m.front:
        star = "*" if entry["name"] == m.chosen else " "
        rest = ", ".join(f"{k} {v}" for k, v in entry.items() if k not in ("name", "plan"))
        yield f" {star} {entry['name']}: {rest}"


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
        first = f"{s.first + 1}-" if s.last != s.first + 1 else ""
        layers = f"{first}{s.last}" if s.last else ""
        ports = f"{_ports(s.inputs)} -> {_ports(s.outputs)}"
        rows.append((name, layers, f"{s.weight_bytes / 1e6:.2f} MB", ports))
    return table(rows)


def _ports(ports: Mapping[str, Port]) -> str:
    return " ".join(
        f"{name}[{','.join(map(str, port.shape))}]" + (f":{port.dtype}" if port.dtype != "float32" else "")
        for name, port in ports.items()
    )
