"""What fused segments save: predicted from where a policy tests, compared with what a runtime really ran."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from mue_edge.bundle.folder import open_bundle
from mue_edge.calibrate.policies.predicted_times import FusedSavings
from mue_edge.loop.driver import stepwise
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.measuring import profile
from mue_edge.measuring.profile import Profile, SegmentTime
from mue_edge.targets.host import HostRuntime
from tests.targets.test_fusing import FIRST, TESTED, caption

WARM = Policy("mue", {"decoder": StackExit(0.5)}, beta=1.0, warmup=0.3, name="no test in the first steps")
IMAGE = Policy("mue", {"image": StackExit(1 - 1e-9)}, beta=1.0, name="tests of the picture only")
FIXED = Policy("fixed", {"image": StackExit(depth=2), "decoder": StackExit(depth=2)}, name="fixed depths")
HEADS = Policy("calm-softmax", {"decoder": StackExit(0.999999)}, name="the head at every boundary")
LEFT_OUT = Policy("uniform-skip", {"decoder": StackExit(depth=2)}, name="a layer less")


@pytest.fixture(scope="module")
def times(tiny_bundle: Path) -> Profile:
    """Every segment, fused or not, takes seconds of its own."""
    manifest, draw = open_bundle(tiny_bundle).manifest, random.Random(0)

    def drawn() -> SegmentTime:
        seconds = draw.random()
        return SegmentTime(seconds, seconds, 0.0, 100)

    blank = profile.blank(manifest, kind=profile.MEASURED, device="here", runtime="onnxruntime", threads=1)
    segments, fused = ({name: drawn() for name in names} for names in (manifest.segments, manifest.fused))
    return replace(blank, segments=segments, fused=fused)


@pytest.mark.parametrize("policy", [Policy("never"), TESTED, FIRST, WARM, IMAGE, FIXED, HEADS, LEFT_OUT], ids=str)
def test_savings_are_those_of_what_runs(tiny_bundle: Path, times: Profile, policy: Policy) -> None:
    bundle = open_bundle(tiny_bundle)
    savings, runtime = FusedSavings(bundle.manifest, times), HostRuntime(bundle, 1)
    both = times.segments | times.fused
    for seed in range(2):
        with stepwise(runtime):
            outcome, single = caption(runtime, policy, seed)
        fused = caption(runtime, policy, seed)[1]
        saved = sum(both[name].median for name in single) - sum(both[name].median for name in fused)
        decoder = [step.depth for step in outcome.steps]
        assert savings.seconds(policy, outcome.depths, decoder) == pytest.approx(saved)


def test_an_estimate_saves_nothing(tiny_bundle: Path, times: Profile) -> None:
    manifest = open_bundle(tiny_bundle).manifest
    assert FusedSavings(manifest, replace(times, fused={})).seconds(Policy("never"), {"image": 3}, [3]) == 0
