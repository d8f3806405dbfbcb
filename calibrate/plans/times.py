"""The profile that a calibration judges by, what its times are worth, and profiles of different moments made
comparable."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mue_edge import machine
from mue_edge.calibrate.certificate.claim import ESTIMATE, LIVE, SIMULATION, Conditions
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.plans.estimate import estimate
from mue_edge.calibrate.traces.tracing import Progress
from mue_edge.errors import UsageError
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import drive
from mue_edge.loop.search import BeamSearch
from mue_edge.measuring import bench, measure, profile
from mue_edge.measuring.profile import Profile, SegmentMeter, SegmentTime
from mue_edge.sessions.captioner import FULL, Captioner
from mue_edge.sessions.session import Session
from mue_edge.targets import choice

PAIRS, WARM_UP = 60, 3  # captions by which profiles are levelled


@dataclass(frozen=True)
class ProfileRequest:
    """Where times shall come from. `kept`: the profile of an interrupted run, if it is there; `given`: one
    that the user names; `device`: one to estimate; `clock`: "wall" or "cpu"."""

    kept: Path
    given: Path | None
    device: str | None
    threads: int
    clock: str


def obtain(
    session: Session, tune: Samples, request: ProfileRequest, progress: Progress, say: Callable[[str], None]
) -> tuple[Profile, Conditions]:
    """A given profile, the one of an interrupted run, an estimate, or a new one on pictures of `tune`.

    Raises UsageError for a device and a profile at once, and for a profile by another clock.
    """
    p = _profile(session, tune, request, progress)
    if p.kind == profile.MEASURED and p.clock != request.clock:
        raise UsageError(
            f"the profile was measured by the {p.clock} clock; give --clock {p.clock}, "
            f"or remove {request.given or request.kept}"
        )
    if (p.error or 0.0) > profile.RESTLESS:
        say(
            f"note: the machine is restless: predictions are off by {p.error:.0%} (median); "
            "budgets are judged with that noise. Repeat when it is quiet, or give --clock cpu"
        )
    if finer := choice.finer(session.bundle.manifest, p):
        say(
            f"note: by what a call costs on {p.device}, a segment a layer pays in {', '.join(finer)}; "
            "export with --plan per-layer, profile and calibrate that bundle"
        )
    return p, conditions(p, request.clock)


def _profile(session: Session, tune: Samples, request: ProfileRequest, progress: Progress) -> Profile:
    if request.device is not None:
        if request.given is not None:
            raise UsageError("--device estimates a profile, --profile names one: give one of them")
        return estimate(session.bundle.manifest, request.device)
    if request.given is not None or request.kept.is_file():
        existing = profile.read(request.given or request.kept)
        existing.check_fits(session.bundle, request.threads)
        return existing
    sources = [s.source for s in tune.samples if s.source]
    inputs = measure.network_inputs(session, [s.picture for s in tune.samples], sources)
    with progress("profile", measure.CAPTIONS * 3 // 2) as step:
        measured, _ = measure.measure(session, inputs, clock=request.clock, step=step)
    profile.write(request.kept, measured)
    return measured


def conditions(p: Profile, clock: str) -> Conditions:
    """What a certificate says of times: measured here and so repeatable live, elsewhere, or estimated."""
    kind = LIVE if p.device == machine.device() else SIMULATION
    if p.kind == profile.ESTIMATE:
        kind = ESTIMATE
    load = "/".join(f"{value:.1f}" for value in p.load) or "unknown"
    clocks = [f"{name} {value}" for name, value in p.clocks.items()] or ["unknown"]
    if clock == profile.CPU:
        clocks.append("CPU time, not wall-clock")
    return Conditions(kind, p.device, p.runtime, p.threads, load, ", ".join(clocks))


def level(
    captioner: Captioner,
    times: Profile,
    reference: Captioner,
    reference_times: Profile,
    pictures: Sequence[Any],
    pairs: int = PAIRS,
) -> Profile:
    """`times` as they would be if `captioner` had been profiled when `reference` was.

    A machine that others use too is slower at one moment than at another, in CPU time as well (shared caches
    and cores), by more than plans differ. So the two bundles run captions at full depth in turns, at one
    moment; each live time over what its own profile predicts says how that profile is off now, and the ratio
    of the two is the error of `times` against the reference's. It does not matter how long the captions are.
    pictures: anything that captioners take.
    """
    predicted: list[list[float]] = [[], []]

    def system(which: int, session: Captioner, own: Profile) -> bench.System:
        inputs = [session.pixels(picture) for picture in pictures[:pairs]]

        def caption(i: int) -> None:
            meter = SegmentMeter(own)
            session.runtime.set_pixels(inputs[i % len(inputs)])
            drive(caption_loop(session.layout, FULL, BeamSearch(session.settings())), session.runtime, meter)
            predicted[which].append(meter.seconds)

        return caption

    systems = {"plan": system(0, captioner, times), "reference": system(1, reference, reference_times)}
    samples = bench.interleave(systems, None, range(pairs), warm_up=WARM_UP)
    off, reference_off = (
        [getattr(s, times.clock) / seconds for s, seconds in zip(live, of_profile[WARM_UP:])]
        for live, of_profile in zip(samples.values(), predicted)
    )
    ratio = statistics.median(a / b for a, b in zip(off, reference_off))
    # Factors of live over predicted have their profile's noise as median when nothing has changed.
    noise, reference_noise = times.noise, reference_times.noise
    return scaled(times, ratio / (noise.p50 / reference_noise.p50 if noise and reference_noise else 1.0))


def scaled(times: Profile, factor: float) -> Profile:
    """The profile of a machine that takes `factor` times as long for everything."""
    segments = {
        name: SegmentTime(s.median * factor, s.p95 * factor, s.spread * factor, s.calls)
        for name, s in times.segments.items()
    }
    preprocess = times.preprocess_seconds
    return replace(
        times,
        segments=segments,
        loop_seconds_per_call=times.loop_seconds_per_call * factor,
        caption_seconds=times.caption_seconds * factor,
        preprocess_seconds=None if preprocess is None else preprocess * factor,
    )
