"""What a calibration leaves behind: plan, front, record, picture, report, and the bundle's new front."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mue_edge import machine, schema
from mue_edge.bundle.folder import with_pareto_front
from mue_edge.calibrate.certificate import losses
from mue_edge.calibrate.certificate.claim import to_json
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.policies import predicted_times, savings
from mue_edge.calibrate.policies.calibration import Calibration
from mue_edge.calibrate.report import document, report_figures
from mue_edge.calibrate.report.findings import Findings, FrontPoint, Live, Timed, find, milliseconds
from mue_edge.errors import command_line
from mue_edge.files import atomic_write
from mue_edge.measuring import profile

SCHEMA = 1
PLAN, FRONT, RECORD = "plan.json", "front.json", "calibration.json"
PICTURE, REPORT = "pareto.png", "report.html"


def write(folder: str | Path, calibration: Calibration, options: Mapping[str, Any], live: Live | None) -> list[str]:
    """Write the five files into `folder` and the front into the bundle; what the terminal says.

    options: the command's options by name ("model" is its argument). live: seconds by policy, as
    `calibration.live_times` gives them. Nothing is written before everything is made.
    Raises EnvironmentLacksError without matplotlib.
    """
    manifest = calibration.evaluator.manifest
    findings = find(calibration, live)
    noise, label = predicted_times.expected_noise(calibration.evaluator.profile), calibration.evaluator.profile.label
    picture = report_figures.pareto(findings, calibration.search.outcomes, noise, calibration.budget, label)
    policies, chosen = [point.policy for point in findings.front], calibration.chosen.policy.name
    json_policies = [policy.to_json() for policy in policies]
    files: dict[str, bytes | str] = {
        PLAN: _json(manifest.plan),
        FRONT: _json({"plan": manifest.plan_hash, "chosen": chosen, "policies": json_policies}),
        RECORD: _json(record(calibration, findings, options)),
        PICTURE: picture,
        REPORT: document.render(calibration, findings, picture, command(options)),
    }
    lines = summary(Path(folder), calibration, findings)
    for name, data in files.items():
        atomic_write(Path(folder) / name, data)
    with_pareto_front(calibration.evaluator.session.bundle.path, policies, chosen)
    return lines


def record(calibration: Calibration, findings: Findings, options: Mapping[str, Any]) -> dict[str, Any]:
    """`calibration.json`: everything, for machines. Times in milliseconds, shares from 0 to 1."""
    evaluator, searched = calibration.evaluator, calibration.search
    manifest, times, frequencies = evaluator.manifest, evaluator.profile, evaluator.frequencies
    profiled = schema.encode(times)
    del profiled["segments"]
    bundle = {name: getattr(manifest, name) for name in ("name", "target", "precision")}
    parts = {name: _data(part) for name, part in (("tune", calibration.tune), ("certify", calibration.certify))}
    live = {
        name: {"mean_ms": 1e3 * t.mean, "p95_ms": 1e3 * t.p95, "of_full_depth": t.ratio}
        | {"late": t.late, "captions": t.captions}
        for name, t in findings.live.items()
    }
    pairs = [
        {"fixed": d.fixed.policy.name, "exits": d.rival and d.rival.policy.name, "time_ratio": d.ratio}
        for d in findings.duels
    ]
    saved = [
        {"share": s.share}
        | {name: point and _point(point) for name, point in (("published", s.published), ("best", s.best))}
        for s in findings.savings
    ]
    return {
        "schema": SCHEMA,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {**machine.versions(), "profile": dict(times.versions)},
        "command": command(options),
        "asked": dict(options),
        "bundle": bundle | {"plan": manifest.plan_hash},
        "profile": {"label": times.label, **profiled},
        "conditions": asdict(calibration.conditions) | {"clock": calibration.evaluator.clock},
        "data": parts | {"frequencies": frequencies and frequencies.fingerprint()},
        "loss": findings.loss,
        "budget_ms": 1e3 * calibration.budget,
        "floor_ms": 1e3 * calibration.floor,
        "full_depth_fits": findings.fits,
        "candidates": len(searched.outcomes),
        "primary": calibration.primary.policy.name,
        "chosen": findings.chosen.policy.name,
        "fastest_certified": findings.fastest.policy.name if findings.fastest else None,
        "front": [_point(point) for point in findings.front],
        "smallest_drop": searched.smallest_drop,
        "clusters_needed": searched.clusters_needed or None,
        "drop_bound_of_primary": calibration.drop_bound,
        "certificate": to_json(calibration.certificate),
        "live": live or None,
        "signals": [asdict(signal) for signal in findings.signals],
        "exits": {stack: {str(d): share for d, share in of.items()} for stack, of in findings.exits.items()},
        "decoder_layers_by_token": [asdict(position) for position in findings.positions],
        "parts_ms": {kind: {"full": 1e3 * a, "chosen": 1e3 * b} for kind, (a, b) in findings.parts.items()},
        "savings": saved,
        "against_fixed_depths": {"verdict": savings.verdict(findings.duels, findings.signals), "pairs": pairs},
        "changed_captions": len(document.changed(calibration)),
    }


def summary(folder: Path, calibration: Calibration, findings: Findings) -> list[str]:
    """The result in some ten lines for a terminal."""
    claim, chosen, full = calibration.certificate.claim, findings.chosen, findings.full
    layers = ", ".join(f"{stack} {value:.2f}" for stack, value in chosen.layers.items())
    sure = "certified" if calibration.certificate.chosen else "not certified"
    kind = "estimated" if calibration.evaluator.profile.kind == profile.ESTIMATE else "predicted"
    budget = f"{milliseconds(calibration.budget)} for {claim.share:.0%} of the captions"
    floor = f"; the least here is {milliseconds(calibration.floor)}"
    quality = f"{chosen.kept:.1%} of full depth's on the tuning pictures ({losses.NAMES[findings.loss]} "
    quality += f"{chosen.quality:.3f} of {full.quality:.3f})"
    quality += f", {chosen.on_certify[1]:.1%} on the others" if chosen.on_certify else ""
    lines = {
        "budget": budget + (": full depth keeps it already" if findings.fits else floor),
        "chosen": f"{chosen.policy.name}, {sure}; layers run: {layers}",
        kind: f"{_times(chosen)}; full depth {_times(full)} ({calibration.evaluator.profile.label})",
    }
    if live := findings.live.get(chosen.policy.name):
        late = f"{live.late} of {live.captions} later than the budget{document.CLOCKS[calibration.evaluator.clock]}"
        lines["live"] = f"{_times(live)}; full depth {_times(findings.live[full.policy.name])}; {late}"
    lines |= {"quality": quality, "certificate": calibration.certificate.statement}
    if (fastest := findings.fastest) is not None:
        words = f"{fastest.policy.name}: {_times(fastest)}, keeps {fastest.kept:.1%}"
        lines["fastest"] = f"{words} (the fastest that is certified)"
    ends = f"{milliseconds(findings.front[0].mean)} to {milliseconds(full.mean)}"
    bundle = calibration.evaluator.session.bundle
    task, more = ("entail", ' "STATEMENT"') if bundle.manifest.answers else ("caption", "")
    lines |= {
        "front": f"{len(findings.front)} policies from {ends}, in the bundle",
        "files": ", ".join(str(folder / name) for name in (REPORT, PICTURE, RECORD, FRONT, PLAN)),
        "next": command_line(task, bundle.path, "PICTURE") + more,
    }
    return [f"{name:<12}{words}" for name, words in lines.items()]


def command(options: Mapping[str, Any]) -> str:
    """The command line of these options: `model` is the argument, `kind` is called --format."""
    words = ["mue-edge", "calibrate", *([str(options["model"])] if "model" in options else [])]
    for name, value in options.items():
        if name == "model" or value is None or value is False:
            continue
        words.append("--format" if name == "kind" else f"--{name.replace('_', '-')}")
        words += [] if value is True else [str(value)]
    return shlex.join(words)


def _point(point: FrontPoint) -> dict[str, Any]:
    return {
        "policy": point.policy.to_json(),
        "mean_ms": 1e3 * point.mean,
        "p95_ms": 1e3 * point.p95,
        "quality": point.quality,
        "kept": point.kept,
        "certify": dict(zip(("quality", "kept"), point.on_certify)) if point.on_certify else None,
        "layers": dict(point.layers),
    }


def _data(part: Samples) -> dict[str, Any]:
    sizes = {"pictures": len(part), "clusters": len(set(part.clusters))}
    return {"source": part.source, **sizes, "fingerprint": part.fingerprint()}


def _times(of: FrontPoint | Timed) -> str:
    return f"mean {milliseconds(of.mean)}, p95 {milliseconds(of.p95)}"


def _json(data: object) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
