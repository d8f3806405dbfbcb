"""`mue-edge export`: cut a model into segments and write the bundle of a target."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mue_edge import targets
from mue_edge.apps.cli import exporting
from mue_edge.apps.cli.catalogue import demo_pictures, range_pictures, resolve_model, usage
from mue_edge.apps.cli.options import check_exists, common, option, shared, takes
from mue_edge.apps.cli.terminal import print_result
from mue_edge.bundle.folder import open_bundle
from mue_edge.bundle.manifest import Manifest
from mue_edge.errors import UsageError, command_line
from mue_edge.export import room
from mue_edge.files import atomic_folder
from mue_edge.inputs import gathering
from mue_edge.targets import target

if TYPE_CHECKING:
    from mue_edge.export.build import Exported

VERIFY_ROWS = 4  # drafts that one pass checks


@dataclass(frozen=True)
class ExportOptions:
    model: str = shared(common.model_argument)
    target: str = shared(common.target_option())
    out: Path | None = shared(common.out_folder("MODEL-TARGET", "The bundle.  "))
    plan: str | None = option('A plan as JSON; or "per-layer", "whole".', metavar="FILE|NAME")
    precision: str | None = shared(common.precision_option)
    backend: str | None = option("What the runtime hands segments to, where the target has a choice.")
    beam: int | None = option("Beams that the decoder's graphs take.")
    head: str | None = option(
        "Whether 8 bits choose the words whose exact scores are computed.  [default: screened on the target host "
        "for captions without beams from 8,000 words on]",
        type=click.Choice(["full", "screened"]),
    )
    lossless: bool = option("Also what `caption --lossless` needs (host, fp32, greedy).")
    image_size: str | None = shared(common.image_size_option)
    text_length: int | None = option(
        "Tokens of the text around a statement; for entailment.", type=click.IntRange(min=4), metavar="N"
    )
    pictures: tuple[str, ...] = option("To scan ranges on.  [default: the model's own]", metavar="PATH")
    as_json: bool = shared(common.json_option("The report as JSON."))


@click.command("export")
@takes(ExportOptions)
@common.max_pixels_option
def command(o: ExportOptions) -> None:
    """Cut MODEL into segments, convert them, verify them here, and write a bundle.

    MODEL is a folder made by `mue-edge import` or `train`, or a bundled model's name.
    """
    size = exporting.parse_size(o.image_size)  # mistakes first: loading torch takes seconds
    target = targets.target(o.target)
    model = resolve_model(o.model)
    if o.plan and Path(o.plan).suffix:
        check_exists(Path(o.plan), "--plan")
    pictures = gathering.gather(o.pictures) if o.pictures else range_pictures(o.model)
    build, plans = room()
    if o.pictures and not build.scans_pictures(target):
        raise UsageError(f"--pictures: {o.target} scans no ranges, so no picture changes its bundle")
    options: dict[str, Any] = plans.read(o.plan) if o.plan else {}
    named = {key: getattr(o, key) for key in ("precision", "backend", "beam", "text_length")}
    options |= {k: v for k, v in named.items() if v is not None} | size
    if o.head:
        options["screened"] = o.head == "screened"
    if o.lossless:
        options.setdefault("verify_rows", VERIFY_ROWS)
    name = Path(o.model).resolve().name
    folder = o.out or Path(f"{name}-{o.target}")
    arguments = o.target, options, name, pictures
    if target.site:
        exported = _export_site(target.site, o.model, model, folder, *arguments)
    else:
        exported = exporting.export(model, folder, *arguments)
    report = _report(exported)
    print_result(o.as_json, report, _text(folder, exported, report))


def _export_site(application: str, name: str, model: Path, folder: Path, *arguments: Any) -> Exported:
    """The folder that an application is served from, with the bundle inside of it."""
    site = importlib.import_module(f"mue_edge.apps.{application}.site")
    tarballs = site.packages()  # what may be missing comes first
    with atomic_folder(folder, site.MARKER) as work:
        exported = exporting.export(model, work / "bundle", *arguments)
        site.write(work, exported.bundle, tarballs, demo_pictures(name))
    return replace(exported, bundle=open_bundle(folder / "bundle"))


def _report(exported: Exported) -> dict[str, Any]:
    """Bytes, time, calls and verification of a bundle that was just made; no time where it cannot run."""
    from mue_edge.export.report import bytes_by_kind

    manifest = exported.bundle.manifest
    evidence: dict[str, Any] = {"rung": manifest.evidence.rung}
    report = {
        "bundle": str(exported.bundle.path),
        "plan": manifest.plan_hash,
        "bytes": bytes_by_kind(exported.bundle),
        "segments": dict(exported.notes),
        "summary": list(exported.summary),
        "evidence": evidence,
    }
    if exported.loop is None:
        return report
    evidence |= {"graph_max_error": exported.graph_error, **vars(exported.loop)}
    return report | {"full_depth": _full_depth(exported)}


def _full_depth(exported: Exported) -> dict[str, Any]:
    segments = {kind: vars(cost) for kind, cost in exported.costs.items()}
    steps = sum(cost.calls for kind, cost in exported.costs.items() if kind.endswith("head"))
    calls = sum(cost.calls for cost in exported.costs.values())
    return {"steps": round(steps), "calls": round(calls), "segments": segments}


def _text(folder: Path, exported: Exported, report: dict[str, Any]) -> Iterator[str]:
    total, rung = sum(report["bytes"].values()), report["evidence"]["rung"]
    yield f"bytes: {total / 1e6:.2f} MB"
    for kind, size in report["bytes"].items():
        yield f"  {kind:<18}{size / 1e6:9.2f} MB  {size / total:4.0%}"
    yield from _delegated(report["segments"])
    yield from report["summary"]
    if exported.loop is None:
        yield f"verified up to level {rung}, since this machine cannot run it"
        yield f"wrote {folder}; next, on the device: {command_line('verify', folder.name)}"
        return
    full = report["full_depth"]
    seconds = sum(c["seconds"] for c in full["segments"].values())
    what = "an answer" if exported.bundle.manifest.answers else "a caption"
    yield (
        f"time of {what} at full depth ({full['steps']} steps, {full['calls']} calls, medians on this "
        f"machine): {seconds * 1000:.2f} ms"
    )
    for kind, c in full["segments"].items():
        share = c["seconds"] / seconds
        yield f"  {kind:<18}{c['seconds'] * 1000:9.2f} ms  {share:4.0%}  {c['calls']:4} calls"
    loop, promised = exported.loop, rung != "none"
    yield f"verified up to level {rung}:" if promised else "compared with torch (no equality is promised):"
    yield f"  graph  outputs of all segments differ from torch's by up to {exported.graph_error:.1e}"
    yield f"  loop   {loop.replay_same_tokens} of {loop.logs} forced replays give the same tokens"
    yield f"         {loop.scores} exit scores differ by up to {loop.max_score_error:.1e}"
    yield f"         {loop.free_same_tokens} of {loop.logs} free runs give the same tokens"
    yield f"wrote {folder}; next: {_next(exported.bundle.manifest, folder)}"


def _next(manifest: Manifest, folder: Path) -> str:
    """The command that uses what was made."""
    if target(manifest.target).site:
        serve = f"python -m http.server --bind 127.0.0.1 --directory {shlex.quote(str(folder))}"
        return f"{serve}, then open http://127.0.0.1:8000"
    return usage("entail" if manifest.answers else "caption", folder)


def _delegated(notes: dict[str, Any]) -> Iterator[str]:
    """How much of the segments a backend took; the segments that it took whole are only counted."""
    if not notes:
        return
    parts = {name: note for name, note in notes.items() if note["delegates"] != 1 or note["host"]}
    yield f"segments that the backend took whole: {len(notes) - len(parts)} of {len(notes)}"
    for name, note in parts.items():
        rest = ", ".join(f"{count} {operator}" for operator, count in note["host"].items()) or "nothing"
        yield f"  {name:<18}{note['delegates']} parts; left to the runtime: {rest}"
