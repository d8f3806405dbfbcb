"""Many policies over many samples equal a live run each, in any order and with any number of workers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mue_edge import targets
from mue_edge.bundle import Bundle, open_bundle
from mue_edge.calibrate.outcomes import Sample, SampleRuns, outcomes
from mue_edge.calibrate.plain_replay import FULL_DEPTH, full_trace, guess, segments
from mue_edge.driver import Runtime, drive
from mue_edge.loop import caption_loop
from mue_edge.policy import Decider, ForcedExits, Policy
from mue_edge.protocol import Outcome
from mue_edge.replay import exit_tests, run
from mue_edge.search import BeamSearch, SearchSettings
from tests.calibrate.symbolic import Symbolic, layout, policies, prompt_layout
from tests.calibrate.test_memo import EVEN, pictures


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
        tests += exit_tests(live(bundle, FULL_DEPTH, sample)[0].decisions)
    gaps = {stack: [gap for s, gap in tests if s == stack and gap > 0] for stack in ("image", "decoder")}
    return policies(gaps | {"text": bundle.manifest.layout.stack("text").distances}, 24, seed=2)


@cache
def opened(place: Path) -> Runtime:
    return targets.open_runtime(open_bundle(place), 1)


def live(bundle: Bundle, policy: Decider, sample: Sample) -> tuple[Outcome, tuple[str, ...]]:
    """An undisturbed run, and the segments that it called."""
    runtime, calls = opened(bundle.path), list[str]()
    runtime.set_pixels(sample.picture)
    loop = caption_loop(bundle.manifest.layout, policy, BeamSearch(bundle.manifest.search), trace=True)
    return drive(loop, runtime, lambda request, _: calls.append(request.run)), tuple(calls)


def test_outcomes_equal_live_runs(
    tmp_path: Path, bundle: Bundle, samples: list[Sample], chosen: list[Policy]
) -> None:
    told: list[SampleRuns] = []
    found = list(outcomes(bundle.path, tmp_path, chosen, samples, progress=told.append))
    assert told == found and [f.sample for f in found] == [s.id for s in samples]
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
    again = list(outcomes(bundle.path, tmp_path, chosen[::-1], samples[::-1]))
    assert [f.runs[::-1] for f in again[::-1]] == [f.runs for f in found]
    assert not any(f.live for f in again)


def test_workers_change_nothing(
    tmp_path: Path, bundle: Bundle, samples: list[Sample], chosen: list[Policy]
) -> None:
    one = list(outcomes(bundle.path, tmp_path / "one", chosen, samples))
    two = list(outcomes(bundle.path, tmp_path / "two", chosen, samples, workers=2))
    assert one == two
    trace = lambda folder: {p.name: p.read_bytes() for p in (tmp_path / folder).iterdir()}
    assert trace("one") == trace("two")


def test_a_picture_file_is_prepared_as_for_a_caption(tmp_path: Path, bundle: Bundle) -> None:
    from tests.apps.cli.run import picture

    picture(tmp_path / "p.png", 1)
    from mue_edge.captioner import Captioner

    captioner = Captioner(bundle, targets.open_runtime(bundle, 1))
    ready: Any = captioner.pixels(tmp_path / "p.png")
    ways: Sequence[Any] = (tmp_path / "p.png", (tmp_path / "p.png").read_bytes(), ready)
    found = [
        next(iter(outcomes(bundle.path, tmp_path / "t", [FULL_DEPTH], [Sample("p", way)]))).runs
        for way in ways
    ]
    assert found[0] == found[1] == found[2]


def test_segments_of_forced_exits_are_those_of_the_loop() -> None:
    for cut, text in ((layout(2), 1), (prompt_layout(2), 2)):
        for decoder in ((4, 1, 1, 3, 1, 1, 4), (1, 1, 1, 1), (1, 3, 4, 1)):
            forced = ForcedExits({"image": 2, "text": text}, decoder)
            runtime, calls = Symbolic(2), list[str]()
            runtime.set_pixels(b"x")
            settings = so_long(len(decoder))
            loop = caption_loop(cut, forced, BeamSearch(settings))
            outcome = drive(loop, runtime, lambda request, _, calls=calls: calls.append(request.run))  # type: ignore[misc]
            assert len(outcome.steps) == len(decoder)
            assert segments(cut, outcome.depths, decoder) == tuple(calls)


def so_long(steps: int) -> SearchSettings:
    """A search of exactly so many steps."""
    return SearchSettings(2, max_length=steps - 1, min_length=steps - 1)


def test_plain_replay_is_exact_in_the_encoder_and_at_full_depth() -> None:
    """And for the decoder's first step, when the encoder went through."""
    cut, settings, depths = prompt_layout(), SearchSettings(1, max_length=6, min_length=4), set()
    for pixels in (b"x", b"y", b"z"):
        runtime = Symbolic()
        runtime.set_pixels(pixels)
        full = run(cut, settings, FULL_DEPTH, runtime, trace=True)
        trace = full_trace(full)
        mine = guess(cut, trace, FULL_DEPTH, settings.max_length)
        assert (mine.depths, mine.decoder) == (full.depths, tuple(step.depth for step in full.steps))
        assert len(mine.segments) == full.calls
        for policy in policies(EVEN, 60):
            if policy.rule not in ("mue", "fixed", "never"):
                continue  # it asks the head, or skips layers: one trace of full depth does not say
            wanted = run(cut, settings, policy, runtime)
            mine = guess(cut, trace, policy, settings.max_length)
            assert mine.depths == wanted.depths
            depths.add(tuple(mine.depths.values()))
            if mine.depths == full.depths:
                assert mine.decoder[0] == wanted.steps[0].depth
                depths.add((mine.decoder[0],))
    assert len(depths) > 5
