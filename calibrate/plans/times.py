"""The profile that a calibration judges by, and what its times are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mue_edge import machine
from mue_edge.calibrate.certificate.claim import ESTIMATE, LIVE, SIMULATION, Conditions
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.plans.estimate import estimate
from mue_edge.calibrate.traces.live import Progress
from mue_edge.errors import UsageError
from mue_edge.measuring import profile, profiling
from mue_edge.measuring.profile import Profile
from mue_edge.sessions.session import Session
from mue_edge.targets import choice


@dataclass(frozen=True)
class ProfileRequest:
    """Where times shall come from. `kept`: the profile of an interrupted run, if it is there; `given`: one
    that the user names; `device`: one to estimate; `clock`: "wall" or "cpu"."""

    kept: Path
    given: Path | None
    device: str | None
    threads: int
    clock: str


def known(
    captioner: Session, tune: Samples, asked: ProfileRequest, progress: Progress, say: Callable[[str], None]
) -> tuple[Profile, Conditions]:
    """A given profile, the one of an interrupted run, an estimate, or a new one on pictures of `tune`.

    Raises UsageError for a device and a profile at once, and for a profile by another clock.
    """
    found = _found(captioner, tune, asked, progress)
    if found.kind == profile.MEASURED and found.clock != asked.clock:
        raise UsageError(
            f"the profile was measured by the {found.clock} clock; give --clock {found.clock}, "
            f"or remove {asked.given or asked.kept}"
        )
    if (found.error or 0.0) > profile.RESTLESS:
        say(
            f"note: the machine is restless: predictions are off by {found.error:.0%} (median); "
            "budgets are judged with that noise. Repeat when it is quiet, or give --clock cpu"
        )
    if finer := choice.finer(captioner.bundle.manifest, found):
        say(
            f"note: by what a call costs on {found.device}, a segment a layer pays in {', '.join(finer)}; "
            "export with --plan per-layer, profile and calibrate that bundle"
        )
    return found, conditions(found, asked.clock)


def _found(captioner: Session, tune: Samples, asked: ProfileRequest, progress: Progress) -> Profile:
    if asked.device is not None:
        if asked.given is not None:
            raise UsageError("--device estimates a profile, --profile names one: give one of them")
        return estimate(captioner.bundle.manifest, asked.device)
    if asked.given is not None or asked.kept.is_file():
        found = profile.read(asked.given or asked.kept)
        found.check_fits(captioner.bundle, asked.threads)
        return found
    shown = profiling.pictures(
        captioner, [s.picture for s in tune.samples], [s.source for s in tune.samples if s.source]
    )
    with progress("profile", profiling.CAPTIONS * 3 // 2) as step:
        made, _ = profiling.profiled(captioner, shown, clock=asked.clock, step=step)
    profile.write(asked.kept, made)
    return made


def conditions(found: Profile, clock: str) -> Conditions:
    """What a certificate says of times: measured here and so repeatable live, elsewhere, or estimated."""
    here = found.device == machine.device()
    kind = ESTIMATE if found.kind == profile.ESTIMATE else LIVE if here else SIMULATION
    load = "/".join(f"{value:.1f}" for value in found.load) or "unknown"
    shown = [f"{name} {value}" for name, value in found.clocks.items()] or ["unknown"]
    clocks = ", ".join([*shown, *(["CPU time, not wall-clock"] if clock == profile.CPU else [])])
    return Conditions(kind, found.device, found.runtime, found.threads, load, clocks)
