"""Profiles: what they predict, how they are read, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mue_edge.errors import InputFileError, UsageError
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import drive
from mue_edge.loop.policy import ForcedExits, Policy
from mue_edge.loop.search import BeamSearch
from mue_edge.measuring.profile import (
    ESTIMATE,
    MEASURED,
    SCHEMA,
    Noise,
    Profile,
    ProfileCheck,
    SegmentMeter,
    SegmentTime,
    read,
    total_macs,
    write,
)
from tests.made_bundle import Clock, Paced, bundle


def profile(**changes: Any) -> Profile:
    """Of the made bundle, with the times of its runtime."""
    m, pace = bundle().manifest, Paced(Clock())
    times = {name: SegmentTime(pace.seconds(name), 2 * pace.seconds(name), 1e-4, 20) for name in m.segments}
    made = Profile(
        schema=SCHEMA,
        kind=MEASURED,
        bundle=m.name,
        target=m.target,
        precision=m.precision,
        plan_hash=m.plan_hash,
        macs=total_macs(m),
        device="here",
        runtime="onnxruntime",
        threads=2,
        date="2026-01-01",
        segments=times,
        loop_seconds_per_call=1e-5,
        caption_seconds=5e-3,
        noise=Noise(1.1, 1.3),
        error=0.02,
        checks={"full depth": ProfileCheck(3, 0.2, 0.21)},
        load=(0.5, 0.25),
    )
    return replace(made, **changes)


def test_a_prediction_is_the_sum_of_what_ran() -> None:
    p = profile()
    assert p.predict([]) == pytest.approx(5e-3)
    assert p.predict(["stem", "head", "head"]) == pytest.approx(5e-3 + 3 * 4e-3 + 3 * 1e-5)


@pytest.mark.parametrize("policy", [Policy("never"), ForcedExits({"image": 1, "text": 3}, (1, 2, 1, 3, 1, 3, 3))])
def test_a_meter_agrees_with_the_clock(policy: Policy | ForcedExits) -> None:
    """Steady segments: what the meter says without looking at a clock is what the clock says."""
    m, runtime, p = bundle().manifest, Paced(Clock()), profile(loop_seconds_per_call=0.0)
    meter = SegmentMeter(p)
    runtime.set_pixels("picture")
    drive(caption_loop(m.layout, policy, BeamSearch(m.search)), runtime, meter)
    assert meter.seconds == pytest.approx(runtime.clock.now)


def test_a_segment_that_was_not_measured() -> None:
    with pytest.raises(UsageError, match=r"no segment 'decoder\.9'.*mue-edge profile"):
        profile().predict(["decoder.9"])


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    for p in (profile(), estimated(), profile(preprocess_seconds=0.01, clock="cpu", clocks={"cores": "2"})):
        write(path, p)
        assert read(path) == p


def estimated() -> Profile:
    return profile(kind=ESTIMATE, noise=None, error=None, checks={}, threads=0, device="jetson", runtime="roof")


def test_an_estimate_says_so() -> None:
    p = estimated()
    assert "estimate for jetson" in p.label and "mue-edge profile" in p.label
    assert p.predict(["stem"]) > 0
    assert "estimate" not in profile().label


def test_profiles_of_something_else_are_refused() -> None:
    opened = bundle()
    profile().check_fits(opened, threads=2)
    profile().check_fits(opened)
    segments = dict(profile().segments)
    del segments["fill.1"]
    for other, word in (
        (profile(plan_hash="0" * 16), "plan 0000"),
        (profile(target="jetson"), "target jetson, not host"),
        (profile(precision="int8"), "precision int8"),
        (profile(macs=5), "macs 5"),
        (profile(segments=segments), r"no segment fill\.1"),
    ):
        with pytest.raises(UsageError, match=rf"{word}.*mue-edge profile made-bundle"):
            other.check_fits(opened)
    with pytest.raises(UsageError, match=r"threads 2, not 1.*mue-edge profile made-bundle --threads 1"):
        profile().check_fits(opened, threads=1)


def test_an_estimate_fits_whatever_the_bundle_runs_on_but_no_other_plan() -> None:
    p = replace(estimated(), precision="fp16")
    p.check_fits(bundle(), threads=4)
    with pytest.raises(UsageError, match="plan"):
        replace(p, plan_hash="other").check_fits(bundle())


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(surprise=1),
        lambda d: d.update(schema=2),
        lambda d: d.update(schema=True),
        lambda d: d.update(kind="guess"),
        lambda d: d.update(kind="estimate"),
        lambda d: d.update(clock="sun"),
        lambda d: d.pop("noise"),
        lambda d: d.pop("error"),
        lambda d: d.pop("plan_hash"),
        lambda d: d.update(threads="2"),
        lambda d: d.update(caption_seconds=-1e-3),
        lambda d: d.update(loop_seconds_per_call=float("nan")),
        lambda d: d.update(noise={"p50": 1.2, "p95": 1.1}),
        lambda d: d.update(noise={"p50": 0, "p95": 1.1}),
        lambda d: d["segments"]["stem"].update(median=float("inf")),
        lambda d: d["segments"]["stem"].update(median=-1),
        lambda d: d["segments"]["stem"].update(p95=0.0),
        lambda d: d["segments"].update(stem=3),
    ],
)
def test_a_profile_that_does_not_fit_together(tmp_path: Path, change: Callable[[Any], object]) -> None:
    path = tmp_path / "profile.json"
    write(path, profile())
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(InputFileError):
        read(path)


@pytest.mark.parametrize("text", ["", "[]", "{", "3", "[" * 100_000])
def test_a_file_that_is_no_profile(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(InputFileError):
        read(path)


def test_a_missing_profile_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="make one with: mue-edge profile"):
        read(tmp_path / "none.json")
