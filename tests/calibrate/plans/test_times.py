"""Profiles of different moments become comparable, whatever the moments were like."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image

from mue_edge.calibrate.plans.times import level, scaled
from mue_edge.measuring import bench, profile
from mue_edge.measuring.profile import MEASURED, Noise, Profile, SegmentTime
from mue_edge.sessions.captioner import Captioner
from tests.made_bundle import Clock, Paced, bundle

PICTURES = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]


class Slowed(Paced):
    """Takes `factor` times as long."""

    factor = 1.0

    def seconds(self, run: str) -> float:
        return self.factor * super().seconds(run)


def profiled(runtime: Slowed) -> Profile:
    """What a profile made now would say; handing over a picture takes 5 ms always."""
    m = bundle().manifest
    segments = {name: SegmentTime(runtime.seconds(name), 1.0, 0.0, 9) for name in m.segments}
    return Profile(
        profile.SCHEMA,
        MEASURED,
        m.name,
        m.target,
        m.precision,
        m.plan_hash,
        0,
        "made",
        "made",
        1,
        "",
        segments,
        caption_seconds=5e-3 * runtime.factor,
        preprocess_seconds=0.01,
        noise=Noise(1.0, 2.0),
        error=0.0,
    )


def levelled(own: Slowed, times: Profile, quiet: Slowed, known: Profile) -> Profile:
    """By the clock of the two runtimes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "time", SimpleNamespace(perf_counter=own.clock, process_time=own.clock))
        return level(Captioner(bundle(), own), times, Captioner(bundle(), quiet), known, PICTURES, 6)


@pytest.mark.parametrize("moment", [1.0, 1.7])
def test_a_profile_made_in_a_slow_moment_is_levelled(moment: float) -> None:
    clock = Clock()
    quiet, own = Slowed(clock), Slowed(clock)
    known, usual = profiled(quiet), profiled(own)
    own.factor = 3.0  # the machine was slow when the plan was profiled
    off = profiled(own)
    quiet.factor = own.factor = moment  # and both are as slow as each other now
    made = levelled(own, off, quiet, known)
    for name, time in usual.segments.items():
        assert made.segments[name].median == pytest.approx(time.median, rel=0.02)
    assert made.caption_seconds == pytest.approx(usual.caption_seconds, rel=0.02)


def test_what_is_really_slower_stays_so() -> None:
    clock = Clock()
    quiet, own = Slowed(clock), Slowed(clock)
    own.factor = 2.0
    known, times = profiled(quiet), profiled(own)
    times = replace(times, caption_seconds=5e-3)
    made = levelled(own, times, quiet, known)
    assert made.segments["stem"].median == pytest.approx(times.segments["stem"].median)
    # A profile whose captions usually take 1.2 of what it predicts is not off when they do.
    times = replace(scaled(times, 1 / 1.2), noise=Noise(1.2, 2.0))
    made = levelled(own, times, quiet, known)
    assert made.segments["stem"].median == pytest.approx(times.segments["stem"].median)


def test_scaled_times_all() -> None:
    times = profiled(Slowed(Clock()))
    made = scaled(times, 2.0)
    calls = ["stem", "image.0", "head"]
    assert made.predict(calls) == pytest.approx(2 * times.predict(calls))
    assert (made.preprocess_seconds, made.noise) == (0.02, times.noise)
