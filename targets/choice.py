"""What is best on a device, from what was measured there; kept in the bundle's profile."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import MANIFEST, Manifest
from mue_edge.files import sha256
from mue_edge.measuring import profile
from mue_edge.targets import target

PER_LAYER, GROUPED = "per-layer", "grouped"
# dB. What apple/ml-stable-diffusion asks of a converted model at least.
LEAST_PSNR = 35.0


def units(measured: Mapping[str, Any]) -> dict[str, str]:
    """The fastest unit of every stack, of those on which each of its functions is near enough to the
    evaluator's answers, if there is one. measured: as `coreml.check.check` has it."""
    seconds: dict[str, dict[str, float]] = defaultdict(dict)
    for unit, figures in measured.items():
        stacks: dict[str, list[Mapping[str, float]]] = defaultdict(list)
        for name, function in figures["functions"].items():
            stacks[name.partition(".")[0]].append(function)
        for stack, functions in stacks.items():
            if min(f["psnr"] for f in functions) >= LEAST_PSNR:
                seconds[stack][unit] = sum(f["seconds"] for f in functions)
    return {f"unit.{stack}": min(of_unit, key=of_unit.__getitem__) for stack, of_unit in seconds.items()}


def plans(manifest: Manifest, times: profile.Profile) -> dict[str, str]:
    """For every stack whether a segment a layer pays there, against the target's number of segments.

    A call costs what the cheapest segment takes, which does next to nothing. More boundaries add calls, L − S
    in a run of all L layers; they save the layers that run after a test would have stopped, on average half
    of what a segment of L / S layers has beyond its first."""
    call = min(t.median for t in times.segments.values()) + times.loop_seconds_per_call
    wanted, best = target(manifest.target).segments, {}
    for stack in manifest.layout.stacks:
        layers, segments = stack.depth, wanted.get(stack.name, stack.depth)
        if segments >= layers or not stack.stages:
            continue
        own = sum(times.segments[stage.name].median for stage in stack.stages)
        layer = max(0.0, own - len(stack.stages) * call) / layers
        saved, added = (layers / segments - 1) / 2 * layer, (layers - segments) * call
        best[f"plan.{stack.name}"] = PER_LAYER if added < saved else GROUPED
    return best


def finer(manifest: Manifest, times: profile.Profile) -> list[str]:
    """Stacks that the bundle has in groups although the profile says that a segment a layer pays."""
    grouped = (stack.name for stack in manifest.layout.stacks if len(stack.stages) < stack.depth)
    return [name for name in grouped if times.chosen.get(f"plan.{name}") == PER_LAYER]


def keep(bundle: Bundle, signed: Path, times: Path) -> Mapping[str, str]:
    """Write into the profile `times` what the sign-off `signed` and the profile itself say is best; nothing
    where one of them is missing, or of another bundle or device than the other."""
    if not (signed.is_file() and times.is_file()):
        return {}
    record, own, manifest = json.loads(signed.read_text("utf-8")), profile.read(times), bundle.manifest
    here = manifest.plan_hash, manifest.target, manifest.precision, sha256(bundle.path / MANIFEST)
    if (own.plan_hash, own.target, own.precision, record["manifest_sha256"]) != here:
        return {}
    if record["device"] != own.device:
        return {}
    chosen = {**record["measured"].get("chosen", {}), **plans(manifest, own)}
    profile.write(times, replace(own, chosen=chosen))
    return chosen


def lines(chosen: Mapping[str, str]) -> list[str]:
    """A line for a report, if anything was chosen."""
    listed = ", ".join(f"{what.replace('.', ' of ')} {best}" for what, best in chosen.items())
    return [f"chosen     {listed}; kept in the bundle's profile"] if chosen else []
