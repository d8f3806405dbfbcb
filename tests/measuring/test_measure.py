"""Measuring by a made-up clock: what a profile says must be what the clock did."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from mue_edge.bundle.folder import Bundle
from mue_edge.errors import VerificationError
from mue_edge.loop.protocol import Answer, Request
from mue_edge.measuring import measure as measuring
from mue_edge.measuring.measure import FULL, MIXED, SHALLOW, NetworkInputs
from mue_edge.measuring.profile import Profile
from mue_edge.sessions.captioner import Captioner
from tests.made_bundle import Clock, Paced, bundle, segments


@dataclass(frozen=True)
class Measured:
    """A profile, and the calls of a caption at full depth."""

    profile: Profile
    full_depth: tuple[str, ...]


def measure(runtime: Paced, captions: int = 200, made: Bundle | None = None, **options: Any) -> Measured:
    """By the runtime's clock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "time", SimpleNamespace(perf_counter=runtime.clock))
        session = Captioner(made or bundle(), runtime)
        return Measured(*measuring.measure(session, NetworkInputs(["picture"], None), captions, **options))


def test_a_steady_device_is_measured_exactly() -> None:
    runtime = Paced(Clock())
    costs = measure(runtime).profile
    assert set(costs.segments) == set(segments())
    for name, time in costs.segments.items():
        assert time.median == pytest.approx(runtime.seconds(name))
        assert time.p95 == pytest.approx(time.median) and time.spread == pytest.approx(0)
        assert time.calls > 10
    assert costs.caption_seconds == pytest.approx(5e-3)
    assert costs.loop_seconds_per_call == pytest.approx(0)
    assert costs.noise.p50 == pytest.approx(1) and costs.noise.p95 == pytest.approx(1)
    assert costs.error == pytest.approx(0)
    assert set(costs.checks) == {FULL, MIXED, SHALLOW}
    assert sum(check.captions for check in costs.checks.values()) == 100
    assert all(check.predicted == pytest.approx(check.live) for check in costs.checks.values())


def test_the_calls_at_full_depth() -> None:
    runtime = Paced(Clock())
    costs = measure(runtime)
    assert len(costs.full_depth) == bundle().manifest.layout.calls(6)
    assert costs.full_depth.count("decoder.2") == 6 and "fill.1" not in costs.full_depth
    live = costs.profile.checks[FULL].live
    assert costs.profile.predict(costs.full_depth) == pytest.approx(live)


def test_the_first_calls_are_not_counted() -> None:
    class Loading(Paced):
        def __init__(self) -> None:
            super().__init__(Clock())
            self.loaded: set[str] = set()

        def execute(self, request: Request) -> Answer:
            if request.run not in self.loaded:
                self.loaded.add(request.run)
                self.clock.now += 100.0
            return super().execute(request)

    runtime, loaded = Loading(), []
    step = lambda: loaded.append((runtime.pictures, len(runtime.loaded)))
    costs = measure(runtime, step=step).profile
    assert loaded[0][0] > 4 and loaded[0][1] == len(segments())
    assert costs.noise.p95 == pytest.approx(1)
    assert max(time.p95 for time in costs.segments.values()) < 1


def test_time_between_the_calls_is_the_loops() -> None:
    class Ticking(Clock):
        """Looking at it takes a microsecond, so that the host loop seems to take two a call."""

        def __call__(self) -> float:
            self.now += 1e-6
            return self.now

    runtime = Paced(Ticking())
    measured = measure(runtime)
    calls, costs = len(measured.full_depth), measured.profile
    assert costs.loop_seconds_per_call == pytest.approx(1e-6 * (calls - 1) / calls, rel=0.05)
    assert costs.segments["stem"].median == pytest.approx(runtime.seconds("stem") + 1e-6)


def test_noise_of_single_calls_averages_out_and_common_noise_does_not() -> None:
    class Shaky(Paced):
        """Factors from 0.8 to 1.2: of each call, or of each caption."""

        def __init__(self, common: bool) -> None:
            super().__init__(Clock())
            self.random, self.common, self.factor = random.Random(1), common, 1.0

        def set_pixels(self, pixels: object) -> None:
            super().set_pixels(pixels)
            self.factor = self.random.uniform(0.8, 1.2)

        def seconds(self, run: str) -> float:
            if not self.common:
                self.factor = self.random.uniform(0.8, 1.2)
            return super().seconds(run) * self.factor

    single, common = (measure(Shaky(common), 400).profile for common in (False, True))
    assert single.segments["decoder.0"].p95 / single.segments["decoder.0"].median > 1.15
    assert 1.0 < single.noise.p95 < 1.08  # the sum of segments' own p95s would be above 1.15
    assert 1.12 < common.noise.p95 < 1.22
    assert single.error < 0.05 < common.error < 0.15


def test_a_slow_machine_shows_in_the_factor_and_not_in_the_medians() -> None:
    class Interrupted(Paced):
        """Each third call is interrupted: medians do not see it, captions do."""

        calls = 0

        def seconds(self, run: str) -> float:
            self.calls += 1
            return super().seconds(run) * (4.0 if self.calls % 3 == 0 else 1.0)

    costs = measure(Interrupted(Clock())).profile
    assert costs.segments["decoder.0"].median == pytest.approx(7e-3)
    assert 1.8 < costs.noise.p50 < 2.2 and costs.error < 0.15


def test_segments_that_no_caption_reaches_are_named() -> None:
    runtime = Paced(Clock())
    made, head = bundle(), segments()["head"]
    more = replace(made.manifest, segments={**segments(), "fill.7": head, "adapter": head})
    with pytest.raises(VerificationError, match=r"reached adapter, fill\.7,"):
        measure(runtime, made=replace(made, manifest=more))
    assert runtime.pictures < 100  # found in the warm-up


def test_the_same_seed_draws_the_same_captions() -> None:
    first, again, other = (measure(Paced(Clock()), seed=seed).profile for seed in (0, 0, 1))
    counts = [{name: time.calls for name, time in c.segments.items()} for c in (first, again, other)]
    assert counts[0] == counts[1] != counts[2]


def test_every_caption_is_reported() -> None:
    seen: list[int] = []
    measure(Paced(Clock()), step=lambda: seen.append(1))
    assert len(seen) == 300
