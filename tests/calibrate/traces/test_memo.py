"""The memo tree equals undisturbed runs: outcome for outcome, whatever was run before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.calibrate.traces.memo import MemoRuntime, signature
from mue_edge.errors import UsageError
from mue_edge.loop.driver import Runtime
from mue_edge.loop.policy import ExitPolicy, ForcedExits, Policy, StackExit
from mue_edge.loop.protocol import Answer, Layout, Outcome, Position, Request
from mue_edge.loop.replay import exit_distances, run
from mue_edge.loop.search import SearchSettings
from tests.calibrate.symbolic import Symbolic, layout, policies, prompt_layout

FULL = Policy("never")
EVEN = {"image": [0.2, 0.5, 0.8], "text": [0.2, 0.5, 0.8], "decoder": [0.1, 0.3, 0.5, 0.7]}
EVEN |= {"enough": [0.3, 0.5, 0.7]}


class Counting:
    """Another runtime, and the requests that it was really given."""

    def __init__(self, inner: Runtime) -> None:
        self.inner, self.requests = inner, list[Request]()

    def set_pixels(self, pixels: object) -> None:
        self.inner.set_pixels(pixels)

    def execute(self, request: Request) -> Answer:
        assert request.then is None
        self.requests.append(request)
        return self.inner.execute(request)

    def close(self) -> None:
        self.inner.close()


@pytest.fixture(scope="session")
def beam_bundle(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_model_folder` for a beam of 3."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from mue_edge.export.build import export

    out = tmp_path_factory.mktemp("bundles") / "tiny-beam"
    export(tiny_model_folder, out, "host", {"beam": 3})
    return out


@pytest.fixture(params=[1, 3])
def bundle(request: pytest.FixtureRequest) -> Iterator[Bundle]:
    """The tiny bundle, greedy and for beams."""
    yield open_bundle(request.getfixturevalue("tiny_bundle" if request.param == 1 else "beam_bundle"))


def pictures(bundle: Bundle, count: int) -> list[object]:
    from mue_edge.export import golden
    from mue_edge.targets.golden import pixels

    p = bundle.manifest.preprocess
    return [pixels(shown, p) for shown in golden.pictures(p.height, p.width, count)]


def test_memo_equals_live_runs(bundle: Bundle) -> None:
    from mue_edge import targets

    at, settings = bundle.manifest.layout, bundle.manifest.search
    live, under = targets.open_runtime(bundle, 1), Counting(targets.open_runtime(bundle, 1))
    shown, tests = pictures(bundle, 6), []
    for picture in shown:
        live.set_pixels(picture)
        tests += exit_distances(run(at, settings, FULL, live, trace=True).decisions)
    gaps = {stack: [gap for s, gap in tests if s == stack and gap > 0] for stack in ("image", "decoder")}
    chosen = policies(gaps | {"text": at.stack("text").distances}, 20)
    memo, met, moved = MemoRuntime(under), set(), 0
    for picture in shown:
        live.set_pixels(picture)
        memo.set_pixels(picture)
        wanted = []
        for policy in chosen:
            wanted.append(run(at, settings, policy, live))
            assert run(at, settings, policy, memo) == wanted[-1], policy
        ran = len(under.requests)
        for i in random.Random(1).sample(range(len(chosen)), len(chosen)):
            assert run(at, settings, chosen[i], memo) == wanted[i]
        assert len(under.requests) == ran, "a served request was run"
        met |= {(o.depths["image"], step.depth) for o in wanted for step in o.steps}
        moved += sum(s.parents != tuple(range(len(s.parents))) for o in wanted for s in o.steps)
    assert memo.live == len(under.requests) < memo.served
    assert memo.again and len(met) > 3 and bool(moved) == (settings.beam > 1)
    assert any(r.run.startswith("fill.") for r in under.requests)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("at", [layout, prompt_layout], ids=["text", "prompt"])
def test_what_is_run_again_is_enough(at: object, rows: int) -> None:
    """Every buffer's content tells all that made it, so that equal answers mean equal buffers."""
    cut: Layout = at(rows)  # type: ignore[operator]
    settings = SearchSettings(rows, max_length=9, min_length=4)
    under = Symbolic(rows)
    memo = MemoRuntime(under)
    for seed in range(3):
        memo.set_pixels(bytes([seed]))
        chosen = policies(EVEN, 24, seed)
        for policy in chosen + chosen[::-1]:
            assert run(cut, settings, policy, memo) == alone(cut, settings, policy, bytes([seed]))
    assert memo.live == len(under.executed)
    assert {run.partition(".")[0] for run in under.executed} >= {"fill", "head", "cross_kv"}
    assert 0 < memo.again < memo.live - memo.again


def alone(cut: Layout, settings: SearchSettings, policy: ExitPolicy, pixels: bytes, trace: bool = False) -> Outcome:
    """A run on a runtime that nothing else was run on."""
    runtime = Symbolic(cut.rows)
    runtime.set_pixels(pixels)
    return run(cut, settings, policy, runtime, trace=trace)


def test_several_searches_share_a_tree() -> None:
    """A narrower beam and another length are other requests, not other answers."""
    cut, memo = layout(3), MemoRuntime(Symbolic(3), b"x")
    for beam, longest in ((3, 9), (2, 9), (1, 9), (3, 6)):
        settings = SearchSettings(beam, max_length=longest, min_length=4)
        for policy in policies(EVEN, 12):
            for trace in (False, True):
                wanted = alone(cut, settings, policy, b"x", trace)
                assert run(cut, settings, policy, memo, trace=trace) == wanted


def test_deeper_encoders_need_no_second_stem() -> None:
    under = Symbolic()
    memo = MemoRuntime(under, b"x")
    for depth in (1, 2, 4):
        run(
            layout(),
            SearchSettings(),
            Policy("fixed", {"image": StackExit(depth=depth), "text": StackExit(depth=1)}),
            memo,
        )
    assert [r for r in under.executed if r in ("stem", "image.0", "image.1", "image.2")] == [
        "stem",
        "image.0",
        "image.1",
        "image.2",
    ]
    assert under.executed.count("text_stem") == 3  # after other requests, so these are other answers


def test_an_output_that_was_read_is_made_again() -> None:
    """The last step's first `y` went into the next segment, so the head may not have it; what only the head
    read is there to go deeper from."""
    cut, settings, memo = layout(), SearchSettings(max_length=2, min_length=2), MemoRuntime(Symbolic(), b"x")
    for last in (3, 4, 1):
        forced = ForcedExits({"image": 1, "text": 1}, (4, 4, last))
        assert run(cut, settings, forced, memo) == alone(cut, settings, forced, b"x")
        assert memo.again == {3: 0, 4: 0, 1: 2}[last]  # embed and the first segment


def test_a_failing_runtime_leaves_the_memo_exact() -> None:
    class Failing(Symbolic):
        left = 1000

        def execute(self, request: Request) -> Answer:
            answer = super().execute(request)
            self.left -= 1
            if self.left == 0:
                raise RuntimeError("out of order")
            return answer

    cut, settings, under = layout(), SearchSettings(max_length=9), Failing()
    memo, failed = MemoRuntime(under, b"x"), 0
    for i, policy in enumerate(policies(EVEN, 40)):
        under.left = 3 + i % 17
        try:
            run(cut, settings, policy, memo)
        except RuntimeError:
            failed += 1
        under.left = 1000
        assert run(cut, settings, policy, memo) == alone(cut, settings, policy, b"x")
    assert failed > 10


def test_another_picture_starts_anew_and_a_closed_memo_refuses() -> None:
    cut, settings, memo = layout(), SearchSettings(max_length=5), MemoRuntime(Symbolic(), b"x")
    first = run(cut, settings, FULL, memo)
    memo.set_pixels(b"y")
    assert run(cut, settings, FULL, memo) == alone(cut, settings, FULL, b"y") != first
    memo.close()
    with pytest.raises(UsageError, match="closed"):
        run(cut, settings, FULL, memo)


def test_two_memos_take_turns_on_one_engine() -> None:
    from mue_edge.calibrate.traces.memo import MemoEngine

    cut, settings, engine = layout(), SearchSettings(max_length=6), MemoEngine(Symbolic())
    memos = {b"x": MemoRuntime(engine, b"x"), b"y": MemoRuntime(engine, b"y")}
    for policy in policies(EVEN, 20):
        for pixels, memo in memos.items():
            assert run(cut, settings, policy, memo) == alone(cut, settings, policy, pixels)


def test_signatures_tell_apart_what_answers_depend_on() -> None:
    plain = Request("cross_kv.0", {"image_x": "image.1", "text_x": "constant:text_x.1"}, {"k": "cross_k.0"})
    other = replace(plain, inputs={"image_x": "image.1", "text_x": "constant:text_x.2"})
    assert signature(plain) != signature(other)
    assert signature(plain) == signature(replace(plain, read=("score", "gap"), then=other))
    fills = [Request("fill.1", {}, {}, gather=rows) for rows in ((0, 1), (0, 2), (0,))]
    assert len({*map(signature, fills)}) == 3
    step = Request("decoder.1", {"x": "decoder.1"}, {"y": "decoder.0"}, position=Position(1, ((0,), (0,))))
    assert signature(step) != signature(replace(step, position=Position(1, ((0,), (1,)))))
