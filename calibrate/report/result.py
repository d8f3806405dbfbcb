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
from mue_edge.calibrate.certificate.claim import to_json
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.policies import predicted_times, savings
from mue_edge.calibrate.policies.calibration import Calibration
from mue_edge.calibrate.report import document, report_figures
from mue_edge.calibrate.report.findings import Findings, FrontPoint, Live, find, unit
from mue_edge.errors import command_line
from mue_edge.files import atomic_write
from mue_edge.measuring import profile

SCHEMA = 1
PLAN, FRONT, RECORD, PICTURE, REPORT = (
    "plan.json", "front.json", "calibration.json", "pareto.png", "report.html",
)  # fmt: skip


def write(
    folder: str | Path,
    calibration: Calibration,
    asked: Mapping[str, Any],
    live: Live | None,
) -> list[str]:
    """Write the five files into `folder` and the front into the bundle; what the terminal says.

    asked: the command's options by name ("model" is its argument). live: seconds by policy, as
    `calibration.live_times` gives them. Nothing is written before everything is made.
    Raises EnvironmentLacksError without matplotlib.
    """
    place, manifest = Path(folder), calibration.evaluator.manifest
    found = find(calibration, live)
    times = calibration.evaluator.profile
    noise = predicted_times.expected_noise(times)
    outcomes, budget = calibration.search.outcomes, calibration.budget
    picture = report_figures.pareto(found, outcomes, noise, budget, times.label)
    policies = [point.policy for point in found.front]
    front = {
        "plan": manifest.plan_hash,
        "chosen": calibration.chosen.policy.name,
        "policies": [policy.to_json() for policy in policies],
    }
    made: dict[str, bytes | str] = {
        PLAN: _json(manifest.plan),
        FRONT: _json(front),
        RECORD: _json(record(calibration, found, asked)),
        PICTURE: picture,
        REPORT: document.render(calibration, found, picture, command(asked)),
    }
    lines = summary(place, calibration, found)
    for name, data in made.items():
        atomic_write(place / name, data)
    with_pareto_front(calibration.evaluator.session.bundle.path, policies, calibration.chosen.policy.name)
    return lines


def record(calibration: Calibration, found: Findings, asked: Mapping[str, Any]) -> dict[str, Any]:
    """`calibration.json`: everything, for machines. Times in milliseconds, shares from 0 to 1."""
    evaluator, searched = calibration.evaluator, calibration.search
    manifest, times, frequencies = evaluator.manifest, evaluator.profile, evaluator.frequencies
    profiled = schema.encode(times)
    del profiled["segments"]
    return {
        "schema": SCHEMA,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {**machine.versions(), "profile": dict(times.versions)},
        "command": command(asked),
        "asked": dict(asked),
        "bundle": {
            "name": manifest.name, "target": manifest.target, "precision": manifest.precision,
            "plan": manifest.plan_hash,
        },
        "profile": {"label": times.label, **profiled},
        "conditions": asdict(calibration.conditions) | {"clock": calibration.evaluator.clock},
        "data": {
            "tune": _data(calibration.tune), "certify": _data(calibration.certify),
            "frequencies": frequencies.fingerprint() if frequencies else None,
        },
        "loss": found.loss,
        "budget_ms": 1e3 * calibration.budget,
        "floor_ms": 1e3 * calibration.floor,
        "full_depth_fits": found.fits,
        "candidates": len(searched.outcomes),
        "primary": calibration.primary.policy.name,
        "chosen": found.chosen.policy.name,
        "fastest_certified": found.fastest.policy.name if found.fastest else None,
        "front": [_point(point) for point in found.front],
        "smallest_drop": searched.smallest_drop,
        "clusters_needed": searched.clusters_needed or None,
        "drop_bound_of_primary": calibration.drop_bound,
        "certificate": to_json(calibration.certificate),
        "live": {
            name: {
                "mean_ms": 1e3 * t.mean, "p95_ms": 1e3 * t.p95, "of_full_depth": t.ratio, "late": t.late,
                "captions": t.captions,
            }
            for name, t in found.live.items()
        } or None,
        "signals": [asdict(signal) for signal in found.signals],
        "exits": {s: {str(depth): share for depth, share in of.items()} for s, of in found.exits.items()},
        "decoder_layers_by_token": [asdict(position) for position in found.positions],
        "parts_ms": {
            kind: {"full": 1e3 * full, "chosen": 1e3 * chosen} for kind, (full, chosen) in found.parts.items()
        },
        "savings": [
            {
                "share": s.share, "published": _point(s.published) if s.published else None,
                "best": _point(s.best) if s.best else None,
            }
            for s in found.savings
        ],
        "against_fixed_depths": {
            "verdict": savings.verdict(found.duels, found.signals),
            "pairs": [
                {
                    "fixed": d.fixed.policy.name, "exits": d.rival.policy.name if d.rival else None,
                    "time_ratio": d.ratio,
                }
                for d in found.duels
            ],
        },
        "changed_captions": len(document.changed(calibration)),
    }  # fmt: skip


def summary(folder: Path, calibration: Calibration, found: Findings) -> list[str]:
    """The result in some ten lines for a terminal."""
    claim, chosen, full = calibration.certificate.claim, found.chosen, found.full
    layers = ", ".join(f"{stack} {value:.2f}" for stack, value in chosen.layers.items())
    sure = "certified" if calibration.certificate.chosen else "not certified"
    kind = "estimated" if calibration.evaluator.profile.kind == profile.ESTIMATE else "predicted"
    budget = f"{_ms(calibration.budget)} for {claim.share:.0%} of the captions"
    fits = ": full depth keeps it already" if found.fits else f"; the least here is {_ms(calibration.floor)}"
    whole = f"full depth {_times(full.mean, full.p95)}"
    lines = [
        ("budget", budget + fits),
        ("chosen", f"{chosen.policy.name}, {sure}; layers run: {layers}"),
        (kind, f"{_times(chosen.mean, chosen.p95)}; {whole} ({calibration.evaluator.profile.label})"),
    ]
    if live := found.live.get(chosen.policy.name):
        reference = found.live[full.policy.name]
        whole = f"full depth {_times(reference.mean, reference.p95)}"
        late = f"{live.late} of {live.captions} later than the budget"
        clock = document.CLOCKS[calibration.evaluator.clock]
        lines.append(("live", f"{_times(live.mean, live.p95)}; {whole}; {late}{clock}"))
    lines.append(("quality", _quality(found)))
    lines.append(("certificate", calibration.certificate.statement))
    if found.fastest is not None:
        fastest = found.fastest
        words = f"{fastest.policy.name}: {_times(fastest.mean, fastest.p95)}, keeps {fastest.kept:.1%}"
        lines.append(("fastest", f"{words} (the fastest that is certified)"))
    ends = f"{_ms(found.front[0].mean)} to {_ms(full.mean)}"
    lines += [
        ("front", f"{len(found.front)} policies from {ends}, in the bundle"),
        ("files", ", ".join(str(folder / name) for name in (REPORT, PICTURE, RECORD, FRONT, PLAN))),
        ("next", _next(calibration)),
    ]
    return [f"{name:<12}{words}" for name, words in lines]


def _next(calibration: Calibration) -> str:
    """The command that uses the bundle."""
    bundle = calibration.evaluator.session.bundle
    task, more = ("entail", ' "STATEMENT"') if bundle.manifest.answers else ("caption", "")
    return command_line(task, bundle.path, "PICTURE") + more


def command(asked: Mapping[str, Any]) -> str:
    """The command line of these options: `model` is the argument, `kind` is called --format."""
    words = ["mue-edge", "calibrate", *([str(asked["model"])] if "model" in asked else [])]
    for name, value in asked.items():
        if name == "model" or value is None or value is False:
            continue
        words.append("--format" if name == "kind" else f"--{name.replace('_', '-')}")
        words += [] if value is True else [str(value)]
    return shlex.join(words)


def _quality(found: Findings) -> str:
    chosen, full = found.chosen, found.full
    words = (
        f"{chosen.kept:.1%} of full depth's on the tuning pictures ({unit(found.loss)} {chosen.quality:.3f}"
    )
    words += f" of {full.quality:.3f})"
    return words + (f", {chosen.held[1]:.1%} on the others" if chosen.held else "")


def _point(point: FrontPoint) -> dict[str, Any]:
    held = {"quality": point.held[0], "kept": point.held[1]} if point.held else None
    return {
        "policy": point.policy.to_json(), "mean_ms": 1e3 * point.mean, "p95_ms": 1e3 * point.p95,
        "quality": point.quality, "kept": point.kept, "certify": held, "layers": dict(point.layers),
    }  # fmt: skip


def _data(part: Samples) -> dict[str, Any]:
    return {
        "source": part.source, "pictures": len(part), "clusters": len(set(part.clusters)),
        "fingerprint": part.fingerprint(),
    }  # fmt: skip


def _times(mean: float, p95: float) -> str:
    return f"mean {_ms(mean)}, p95 {_ms(p95)}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def _json(data: object) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
