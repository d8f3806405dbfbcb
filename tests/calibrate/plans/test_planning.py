"""Plans from costs and captions: calls of coarser cuts are foretold, their captions are the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.calibrate.plans.planning import boundary_costs, plan
from mue_edge.calibrate.traces.tracing import Sample, TracedRun, traced_runs
from mue_edge.errors import UsageError
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.replay import exit_distances, midpoint_quantile, run
from mue_edge.measuring import profile
from mue_edge.measuring.profile import Profile, SegmentTime
from tests.calibrate.traces.test_memo import pictures

COUNTED = ("image", "decoder", "cross_kv", "fill")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def samples(bundle: Bundle) -> list[Sample]:
    return [Sample(f"picture {i}", picture) for i, picture in enumerate(pictures(bundle, 6))]


def times(bundle: Bundle, boundary: float, loop: float = 0.0) -> Profile:
    """Every layer of every kind takes 1 s, every segment of a stack `boundary` more, other segments 2 s."""
    m = bundle.manifest
    seconds = {name: s.last - s.first + boundary if s.stack else 2.0 for name, s in m.segments.items()}
    segments = {name: SegmentTime(value, value, 0.0, 1) for name, value in seconds.items()}
    return Profile(
        profile.SCHEMA,
        profile.ESTIMATE,
        m.name,
        m.target,
        m.precision,
        m.plan_hash,
        profile.total_macs(m),
        "made",
        "made",
        1,
        "",
        segments,
        loop,
    )


def policy_at_two(bundle: Bundle, samples: list[Sample]) -> Policy:
    """Leaves the image encoder after 2 layers, and half of the decoder's steps after 2."""
    from mue_edge import targets

    gaps = []
    runtime, m = targets.open_runtime(bundle, 1), bundle.manifest
    for sample in samples:
        runtime.set_pixels(sample.picture)
        outcome = run(m.layout, m.search, Policy("never"), runtime, trace=True)
        gaps += [
            gap
            for (stack, gap), d in zip(exit_distances(outcome.decisions), outcome.decisions, strict=True)
            if stack == "decoder" and d.depth == 2
        ]
    runtime.close()
    return Policy(
        "mue",
        {"image": StackExit(depth=2), "decoder": StackExit(thetas=(None, 1 - midpoint_quantile(gaps, 0.5)))},
        beta=1.0,
    )


def runs(bundle: Bundle, folder: Path, policy: Policy, samples: list[Sample]) -> list[TracedRun]:
    return [found.runs[0] for found in traced_runs(bundle.path, folder, [policy], samples)]


def test_a_planned_bundle_gives_the_same_captions_with_the_foretold_calls(
    tmp_path: Path, tiny_model_folder: Path, bundle: Bundle, samples: list[Sample]
) -> None:
    from mue_edge.export.build import export

    policy, fine = policy_at_two(bundle, samples), times(bundle, boundary=0.1, loop=0.05)
    before = runs(bundle, tmp_path / "fine", policy, samples)
    depths = Counter(depth for run in before for depth in run.decoder)
    assert depths.keys() == {2, 3} and any("fill.2" in run.segments for run in before)
    layout = bundle.manifest.layout
    captions = [run.segments for run in before]
    costs = dict.fromkeys(COUNTED, 0.1)
    planned = plan(layout, fine, captions, costs)
    assert planned == {"image": (2, 3), "decoder": (2, 3)}
    options = {"ends": {stack: list(ends) for stack, ends in planned.items()}}
    made = export(tiny_model_folder, tmp_path / "planned", options=options).bundle
    after = runs(made, tmp_path / "coarse", policy, samples)
    assert [(r.tokens, r.decoder, r.depths) for r in after] == [(r.tokens, r.decoder, r.depths) for r in before]
    # Exits of this policy are on boundaries that were kept, so nothing is approximate.
    coarse = times(made, boundary=0.1, loop=0.05)
    assert sum(coarse.predict(r.segments) for r in after) < sum(map(fine.predict, captions))
    del costs["fill"]  # the last layer's is a segment of its own in both
    assert boundary_costs(bundle.manifest, fine, made.manifest, coarse) == pytest.approx(costs)


def test_what_boundaries_cost_decides_how_many_there_are(tmp_path: Path, bundle: Bundle, samples: list[Sample]) -> None:
    policy = policy_at_two(bundle, samples)
    captions = [run.segments for run in runs(bundle, tmp_path, policy, samples)]
    layout = bundle.manifest.layout

    def ends(boundary: float, told: bool = True) -> dict[str, tuple[int, ...]]:
        costs = dict.fromkeys(COUNTED, boundary) if told else {}
        return dict(plan(layout, times(bundle, boundary), captions, costs))

    assert ends(0.1)["decoder"] == (2, 3)
    assert ends(50.0)["decoder"] == (3,)
    assert ends(50.0, told=False)["decoder"] == (2, 3)
    # No exit after the first layer, and a boundary there costs nothing: fewer segments win.
    assert ends(0.0)["image"] == (2, 3)
    full = [run.segments for run in runs(bundle, tmp_path, Policy("never"), samples)]
    flat = plan(layout, times(bundle, 0.5), full, {})
    assert flat == {"image": (3,), "decoder": (3,)}


def test_nothing_is_planned_from_nothing(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="captions"):
        plan(bundle.manifest.layout, times(bundle, 0.5), [], {})
