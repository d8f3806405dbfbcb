"""Many policies over many samples equal a live run each, in any order and with any number of workers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mue_edge import targets
from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.calibrate.traces.tracing import Sample, traced_runs
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import Runtime, drive
from mue_edge.loop.policy import ExitPolicy, Policy
from mue_edge.loop.protocol import Outcome
from mue_edge.loop.replay import exit_distances
from mue_edge.loop.search import BeamSearch
from mue_edge.sessions.captioner import FULL
from tests.calibrate.symbolic import policies
from tests.calibrate.traces.test_memo import pictures


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def samples(bundle: Bundle) -> list[Sample]:
    return [Sample(f"picture {i}", picture) for i, picture in enumerate(pictures(bundle, 4))]


@pytest.fixture(scope="module")
def chosen(bundle: Bundle, samples: list[Sample]) -> list[Policy]:
    tests: list[tuple[str, float]] = []
    for sample in samples:
        tests += exit_distances(live(bundle, FULL, sample)[0].decisions)
    gaps = {stack: [gap for s, gap in tests if s == stack and gap > 0] for stack in ("image", "decoder")}
    return policies(gaps | {"text": bundle.manifest.layout.stack("text").distances}, 24, seed=2)


@cache
def opened(place: Path) -> Runtime:
    return targets.open_runtime(open_bundle(place), 1)


def live(bundle: Bundle, policy: ExitPolicy, sample: Sample) -> tuple[Outcome, tuple[str, ...]]:
    """An undisturbed run, and the segments that it called."""
    runtime, calls = opened(bundle.path), list[str]()
    runtime.set_pixels(sample.picture)
    loop = caption_loop(bundle.manifest.layout, policy, BeamSearch(bundle.manifest.search), trace=True)
    return drive(loop, runtime, lambda request, _: calls.append(request.run)), tuple(calls)


def test_runs_equal_live_runs(tmp_path: Path, bundle: Bundle, samples: list[Sample], chosen: list[Policy]) -> None:
    found = list(traced_runs(bundle.path, tmp_path, chosen, samples))
    assert [f.sample for f in found] == [s.id for s in samples]
    depths = set()
    for sample, of_sample in zip(samples, found):
        assert of_sample.live >= of_sample.nodes > 0
        for policy, mine in zip(chosen, of_sample.runs, strict=True):
            outcome, calls = live(bundle, policy, sample)
            best = outcome.hypotheses[0]
            assert (mine.tokens, mine.score, mine.depths) == (best.tokens, best.score, outcome.depths)
            assert mine.decoder == tuple(step.depth for step in outcome.steps)
            assert mine.segments == calls
            depths |= {(mine.depths["image"], depth) for depth in mine.decoder}
    assert len(depths) > 3
    again = list(traced_runs(bundle.path, tmp_path, chosen[::-1], samples[::-1]))
    assert [f.runs[::-1] for f in again[::-1]] == [f.runs for f in found]
    assert not any(f.live for f in again)


def test_workers_change_nothing(tmp_path: Path, bundle: Bundle, samples: list[Sample], chosen: list[Policy]) -> None:
    one = list(traced_runs(bundle.path, tmp_path / "one", chosen, samples))
    two = list(traced_runs(bundle.path, tmp_path / "two", chosen, samples, workers=2))
    assert one == two
    trace = lambda folder: {p.name: p.read_bytes() for p in (tmp_path / folder).iterdir()}
    assert trace("one") == trace("two")


def test_a_picture_file_is_prepared_as_for_a_caption(tmp_path: Path, bundle: Bundle) -> None:
    from tests.apps.cli.run import picture

    picture(tmp_path / "p.png", 1)
    from mue_edge.sessions.captioner import Captioner

    captioner = Captioner(bundle, targets.open_runtime(bundle, 1))
    ready: Any = captioner.pixels(tmp_path / "p.png")
    ways: Sequence[Any] = (tmp_path / "p.png", (tmp_path / "p.png").read_bytes(), ready)
    found = [next(iter(traced_runs(bundle.path, tmp_path / "t", [FULL], [Sample("p", way)]))).runs for way in ways]
    assert found[0] == found[1] == found[2]
