"""The plain guess of a policy's run is exact where it says so."""

from __future__ import annotations

from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import drive
from mue_edge.loop.policy import ForcedExits
from mue_edge.loop.replay import run
from mue_edge.loop.search import BeamSearch, SearchSettings
from tests.calibrate.symbolic import Symbolic, layout, policies, prompt_layout
from tests.calibrate.traces.test_memo import EVEN
from tools.verification.plain_replay import FULL_DEPTH, full_trace, guess, segments


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
