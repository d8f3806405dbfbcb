"""`mue-edge export`: cut a model into segments and write the bundle of a target."""

from __future__ import annotations

import importlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mue_edge.apps.cli.options.common import (
    image_size_option,
    json_option,
    model_argument,
    precision_option,
    target_option,
)
from mue_edge.apps.cli.options.pixels import max_pixels_option
from mue_edge.errors import command_line

if TYPE_CHECKING:
    from mue_edge.export.build import Exported
    from mue_edge.inputs.image import PictureSource
    from mue_edge.measuring.bench import SegmentCost

VERIFY_ROWS = 4  # drafts that one pass checks


@click.command("export")
@model_argument
@target_option()
@click.option("--out", type=click.Path(), metavar="DIR", help="The bundle.  [default: MODEL-TARGET]")
@click.option("--plan", metavar="FILE|NAME", help='A plan as JSON; or "per-layer", "whole".')
@precision_option
@click.option("--backend", help="What the runtime hands segments to, where the target has a choice.")
@click.option("--beam", type=int, help="Beams that the decoder's graphs take.")
@click.option("--lossless", is_flag=True, help="Also what `caption --lossless` needs (host, fp32, greedy).")
@image_size_option
@click.option(
    "--text-length",
    type=click.IntRange(min=4),
    metavar="N",
    help="Tokens of the text around a statement; for entailment.",
)
@click.option(
    "--pictures", multiple=True, metavar="PATH", help="To scan ranges on.  [default: the model's own]"
)
@max_pixels_option
@json_option("The report as JSON.")
def command(
    model: str, target: str, out: str | None, plan: str | None, precision: str | None, backend: str | None,
    beam: int | None, lossless: bool, image_size: str | None, text_length: int | None,
    pictures: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Cut MODEL into segments, convert them, verify them here, and write a bundle.

    MODEL is a folder made by `mue-edge import` or `train`, or a bundled model's name.
    """
    from mue_edge import targets
    from mue_edge.apps.cli import exporting
    from mue_edge.apps.cli.catalogue import range_pictures, resolve_model
    from mue_edge.apps.cli.options.types import check_there
    from mue_edge.errors import UsageError
    from mue_edge.export import room
    from mue_edge.inputs import gathering

    size = exporting.parse_size(image_size)  # mistakes first: loading torch takes seconds
    chosen = targets.target(target)
    site = chosen.site
    folder = resolve_model(model)
    if plan and Path(plan).suffix:
        check_there(Path(plan), "--plan")
    shown = gathering.gather(pictures) if pictures else range_pictures(model)
    build, plans = room()
    if pictures and not build.scans_pictures(chosen):
        raise UsageError(f"--pictures: {target} scans no ranges, so no picture changes its bundle")
    options: dict[str, Any] = plans.read(plan) if plan else {}
    given = {"precision": precision, "backend": backend, "beam": beam, "text_length": text_length}
    options |= {k: v for k, v in given.items() if v is not None} | size
    if lossless:
        options.setdefault("verify_rows", VERIFY_ROWS)
    name = Path(model).resolve().name
    place = Path(out or f"{name}-{target}")
    if site:
        made = _export_site(site, model, folder, place, target, options, name, shown)
    else:
        made = exporting.export(folder, place, target, options, name, shown)
    report = describe(made)
    click.echo(json.dumps(report, indent=1) if as_json else _text(place, made, report))


def _export_site(
    application: str, model: str, folder: Path, place: Path, target: str, options: dict[str, Any], name: str,
    shown: Sequence[PictureSource],
) -> Exported:  # fmt: skip
    """The folder that an application is served from, with the bundle inside of it."""
    from mue_edge.apps.cli import exporting
    from mue_edge.apps.cli.catalogue import demo_pictures
    from mue_edge.bundle.folder import open_bundle
    from mue_edge.files import atomic_folder

    writer = importlib.import_module(f"mue_edge.apps.{application}.site")
    tarballs = writer.packages()  # what may be missing comes first
    with atomic_folder(place, writer.MARKER) as work:
        made = exporting.export(folder, work / "bundle", target, options, name, shown)
        writer.write(work, made.bundle, tarballs, demo_pictures(model))
    return replace(made, bundle=open_bundle(place / "bundle"))


def describe(made: Exported) -> dict[str, Any]:
    """Bytes, time, calls and verification of a bundle that was just made; no time where it cannot run."""
    from mue_edge.export.report import bytes_by_kind

    manifest = made.bundle.manifest
    evidence: dict[str, Any] = {"rung": manifest.evidence.rung}
    report = {
        "bundle": str(made.bundle.path), "plan": manifest.plan_hash,
        "bytes": bytes_by_kind(made.bundle), "segments": dict(made.notes),
        "summary": list(made.summary), "evidence": evidence,
    }  # fmt: skip
    if made.loop is None:
        return report
    evidence |= {"graph_max_error": made.graph_error, **vars(made.loop)}
    return report | {"full_depth": _full_depth(made)}


def _full_depth(made: Exported) -> dict[str, Any]:
    from mue_edge import targets
    from mue_edge.measuring import bench
    from mue_edge.targets import golden

    manifest = made.bundle.manifest
    shown, _ = golden.read(made.bundle)
    pixels = [golden.pixels(picture, manifest.preprocess) for picture in shown]
    runtime = targets.open_runtime(made.bundle)
    try:
        costs = bench.segment_costs(manifest.layout, manifest.search, runtime, pixels, runs=3)
    finally:
        runtime.close()
    steps = costs["head"].calls
    calls = manifest.layout.calls(steps)
    return {"steps": steps, "calls": calls, "segments": _costs(costs)}


def _costs(costs: dict[str, SegmentCost]) -> dict[str, dict[str, float]]:
    return {kind: {"calls": c.calls, "seconds": c.seconds} for kind, c in costs.items()}


def _text(place: Path, made: Exported, report: dict[str, Any]) -> str:
    total = sum(report["bytes"].values())
    lines = [f"bytes: {total / 1e6:.2f} MB"]
    lines += [
        f"  {kind:<18}{size / 1e6:9.2f} MB  {size / total:4.0%}" for kind, size in report["bytes"].items()
    ]
    lines += [*_lowered(report["segments"]), *report["summary"]]
    if made.loop is None:
        lines += [
            f"verified up to rung {report['evidence']['rung']}, since this machine cannot run it",
            f"wrote {place}; next, on the device: {command_line('verify', place.name)}",
        ]
        return "\n".join(lines)
    full = report["full_depth"]
    seconds = sum(c["seconds"] for c in full["segments"].values())
    what = "an answer" if made.bundle.manifest.answers else "a caption"
    lines.append(
        f"time of {what} at full depth ({full['steps']} steps, {full['calls']} calls, medians on this "
        f"machine): {seconds * 1000:.2f} ms"
    )
    lines += [
        f"  {kind:<18}{c['seconds'] * 1000:9.2f} ms  {c['seconds'] / seconds:4.0%}  {c['calls']:4} calls"
        for kind, c in full["segments"].items()
    ]
    loop, rung = made.loop, report["evidence"]["rung"]
    lines += [
        f"verified up to rung {rung}:"
        if rung != "none"
        else "compared with torch (no equality is promised):",
        f"  graph  outputs of all segments differ from torch's by up to {made.graph_error:.1e}",
        f"  loop   {loop.replay_same_tokens} of {loop.logs} forced replays give the same tokens",
        f"         {loop.scores} exit scores differ by up to {loop.max_score_error:.1e}",
        f"         {loop.free_same_tokens} of {loop.logs} free runs give the same tokens",
        f"wrote {place}; next: {_next(made, place)}",
    ]
    return "\n".join(lines)


def _next(made: Exported, place: Path) -> str:
    """The command that uses what was made."""
    from mue_edge.targets import target

    if target(made.bundle.manifest.target).site:
        serve = f"python -m http.server --bind 127.0.0.1 --directory {shlex.quote(str(place))}"
        return f"{serve}, then open http://127.0.0.1:8000"
    if made.bundle.manifest.answers:
        return command_line("entail", place, "PICTURE") + ' "STATEMENT"'
    return command_line("caption", place, "PICTURE")


def _lowered(notes: dict[str, Any]) -> list[str]:
    """How much of the segments a backend took; the segments that it took whole are only counted."""
    if not notes:
        return []
    whole = [name for name, note in notes.items() if note["delegates"] == 1 and not note["host"]]
    lines = [f"segments that the backend took whole: {len(whole)} of {len(notes)}"]
    for name, note in notes.items():
        if name not in whole:
            left = ", ".join(f"{count} {operator}" for operator, count in note["host"].items()) or "nothing"
            lines.append(f"  {name:<18}{note['delegates']} parts; left to the runtime: {left}")
    return lines
