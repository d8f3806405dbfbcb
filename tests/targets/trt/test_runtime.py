"""The TensorRT adapter over stand-ins: the same captions as the host's, launch and wait order, hazards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port
from mue_edge.errors import InputFileError, MueEdgeError
from mue_edge.loop.driver import Runtime
from mue_edge.loop.policy import ALWAYS, NEVER, ExitPolicy, Policy
from mue_edge.loop.protocol import Outcome, Request
from mue_edge.loop.replay import exit_distances, quantile_policy, run
from mue_edge.targets.host import HostRuntime
from mue_edge.targets.trt import memory
from mue_edge.targets.trt.cuda import Cuda
from mue_edge.targets.trt.runtime import TensorRTRuntime
from tests.targets.trt.conftest import Board


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (1, 3, 48, 48)).astype(np.float32)


class UpAndDown(ExitPolicy):
    """One decoder layer for two steps, then all, then two: rows are pending, are filled, are pending
    again."""

    def threshold(self, stack: str, depth: int, step: int = 0, max_length: int = 16) -> float:
        wanted = (1, 1, 3, 2)[step % 4] if stack == "decoder" else 2
        return ALWAYS if depth >= wanted else NEVER


def captioned(bundle: Bundle, runtime: Runtime, policy: ExitPolicy, seed: int, trace: bool = False) -> Outcome:
    runtime.set_pixels(noise(seed))
    m = bundle.manifest
    return run(m.layout, m.search, policy, runtime, trace=trace)


def half(bundle: Bundle) -> Policy:
    """A policy that leaves about half of the tests."""
    host = HostRuntime(bundle, 1)
    tests = [
        t for seed in range(4) for t in exit_distances(captioned(bundle, host, Policy("never"), seed, True).decisions)
    ]
    host.close()
    return quantile_policy(tests, 0.5, "half")


def same(a: Outcome, b: Outcome) -> bool:
    """Tokens, exits and the order of all decisions; scores up to what another order of summing changes."""
    tests = [[(d.stack, d.depth, d.step, d.exit) for d in outcome.decisions] for outcome in (a, b)]
    scores = [[s for d in outcome.decisions for s in d.scores] for outcome in (a, b)]
    tokens = [[h.tokens for h in outcome.hypotheses] for outcome in (a, b)]
    return (
        tokens[0] == tokens[1]
        and (a.depths, a.steps) == (b.depths, b.steps)
        and tests[0] == tests[1]
        and scores[0] == pytest.approx(scores[1], abs=1e-4)
    )


@pytest.mark.parametrize("look_ahead", [True, False])
def test_captions_equal_the_hosts(jetson_bundle: Bundle, board: Board, look_ahead: bool) -> None:
    host, device = HostRuntime(jetson_bundle, 1), board.runtime(jetson_bundle, look_ahead=look_ahead)
    policies: list[ExitPolicy] = [Policy("never"), half(jetson_bundle), UpAndDown()]
    depths = set()
    for seed in range(6):
        for policy in policies:
            wanted, found = (captioned(jetson_bundle, r, policy, seed) for r in (host, device))
            assert same(wanted, found), (seed, policy)
            depths |= {step.depth for step in found.steps}
    assert depths == {1, 2, 3}
    device.close()
    assert not board.cuda.device and not board.cuda.host and not board.cuda.streams, "memory was not given back"


def test_the_next_segment_is_enqueued_before_the_scores_are_waited_for(jetson_bundle: Bundle, board: Board) -> None:
    device = board.runtime(jetson_bundle)
    tests = half(jetson_bundle)
    captioned(jetson_bundle, device, tests, 0)
    board.cuda.log.clear()
    captioned(jetson_bundle, device, replace(tests.with_exit("image", theta=0.99999), beta=1.0), 0)
    log = [what.removeprefix("graph ") for kind, what in board.cuda.log if kind == "enqueue"]
    first_wait = next(i for i, (kind, _) in enumerate(board.cuda.log) if kind == "wait")
    before = [what.removeprefix("graph ") for kind, what in board.cuda.log[:first_wait] if kind == "enqueue"]
    assert "image.1" in before and "image.0" in before and log.index("image.0") < log.index("image.1")
    assert sum(what == "image.1" for what in log) == 1, "a segment that ran ahead ran again"


def test_every_run_after_the_first_is_a_graph_of_its_buffers(jetson_bundle: Bundle, board: Board) -> None:
    device = board.runtime(jetson_bundle)
    for seed in range(3):
        captioned(jetson_bundle, device, Policy("never"), seed)
    board.cuda.log.clear()
    captioned(jetson_bundle, device, Policy("never"), 3)
    runs = {what for kind, what in board.cuda.log if (kind == "enqueue" and "." in what) or what.endswith("head")}
    assert runs and all(what.startswith("graph ") for what in runs)
    assert device.plainly_run() == {}


def test_what_cannot_be_captured_is_launched_plainly_and_told(jetson_bundle: Bundle, board: Board) -> None:
    board.trt.uncapturable = True
    host, device = HostRuntime(jetson_bundle, 1), board.runtime(jetson_bundle)
    for seed in range(2):
        wanted, found = (captioned(jetson_bundle, r, Policy("never"), seed) for r in (host, device))
        assert same(wanted, found)
    assert "decoder.1" in device.plainly_run()
    assert not any(what.startswith("graph ") for _, what in board.cuda.log)


def test_a_request_that_changed_is_not_answered_by_what_ran_ahead(jetson_bundle: Bundle, board: Board) -> None:
    device = board.runtime(jetson_bundle)
    device.set_pixels(noise(0))
    device.execute(Request("stem", {"pixels": "pixels"}, {"x": "image.0"}))
    fed = jetson_bundle.manifest.layout.stack("image").stages[0].constants

    def image(j: int, read: tuple[str, ...], then: Request | None = None) -> Request:
        names = {"y": f"image.{(j + 1) % 2}", "score": "encoder_score", "gap": "encoder_gap"}
        return Request(f"image.{j}", {"x": f"image.{j % 2}", **fed}, names, read, then=then)

    first = device.execute(image(0, ("score", "gap"), image(1, ())))
    assert first.ran_ahead
    board.cuda.log.clear()
    again = device.execute(image(0, ("score", "gap")))
    assert any("image.0" in what for _, what in board.cuda.log)
    assert again.scalars != first.scalars, "image.1 has overwritten its input's input: the answer is another one"


def test_profiles_wait_for_every_segment(jetson_bundle: Bundle, board: Board) -> None:
    device = board.runtime(jetson_bundle)
    device.stepwise = True
    captioned(jetson_bundle, device, Policy("never"), 0)
    stream = next(iter(board.cuda.streams.values()))
    assert stream.done == len(stream.items)
    waits = sum(kind == "wait" for kind, _ in board.cuda.log)
    assert waits >= jetson_bundle.manifest.layout.calls(1)


def test_pixels_of_another_shape_are_refused(jetson_bundle: Bundle, board: Board) -> None:
    with pytest.raises(InputFileError, match=r"\(1, 3, 48, 48\)"):
        board.runtime(jetson_bundle).set_pixels(np.zeros((1, 3, 32, 48), np.float32))


def test_a_value_is_not_overwritten_before_it_was_copied(board: Board) -> None:
    """Two values for one buffer, both used on the stream before anybody waits."""
    cuda = Cuda()
    stream, port = cuda.stream(), Port((4,), "float32")
    buffers = [memory.Buffer(cuda.malloc(16), port) for _ in range(3)]
    staging = memory.Staging(cuda, stream, buffers[0])
    for value, kept in ((1.0, buffers[1]), (2.0, buffers[2])):
        staging.fill(value)
        cuda.copy(kept.pointer, buffers[0].pointer, 16, stream)
    reads = memory.Readback(cuda, stream, {"first": buffers[1], "second": buffers[2]})
    reads.start()
    found = reads.wait()
    assert found["first"].tolist() == [1.0] * 4 and found["second"].tolist() == [2.0] * 4


def test_an_early_read_is_poison(board: Board) -> None:
    cuda = Cuda()
    stream, port = cuda.stream(), Port((4,), "float32")
    buffer = memory.Buffer(cuda.malloc(16), port)
    cuda.zero(buffer.pointer, 16, stream)
    reads = memory.Readback(cuda, stream, {"x": buffer})
    reads.start()
    assert all(np.isnan(pinned.array).all() for pinned in reads._pinned.values())
    assert not reads.wait()["x"].any()


# --- Faults put into the adapter: each must show, or the tests above see nothing.
def early_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory.Readback, "wait", lambda self: {p: x.array for p, x in self._pinned.items()})


def wrong_parity(patch: pytest.MonkeyPatch) -> None:
    plain = TensorRTRuntime._launch

    def launch(self: TensorRTRuntime, request: Request, read: bool) -> object:
        if request.run == "image.1":
            swap = {"image.0": "image.1", "image.1": "image.0"}
            inputs = {p: swap.get(n, n) for p, n in request.inputs.items()}
            outputs = {p: swap.get(n, n) for p, n in request.outputs.items()}
            request = replace(request, inputs=inputs, outputs=outputs)
        return plain(self, request, read)

    patch.setattr(TensorRTRuntime, "_launch", launch)


def scores_copied_late(patch: pytest.MonkeyPatch) -> None:
    """The scores of a segment are copied after the segment ahead has overwritten them."""
    patch.setattr(memory.Readback, "start", lambda self: None)
    plain = memory.Readback.wait

    def wait(self: memory.Readback) -> object:
        for port, buffer in self._buffers.items():
            self._cuda.download(self._pinned[port].pointer, buffer.pointer, buffer.bytes, self._stream)
        self._cuda.call("cudaEventRecord", self._arrived, self._stream)
        return plain(self)

    patch.setattr(memory.Readback, "wait", wait)


def rows_of_the_wrong_layer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TensorRTRuntime, "_store_rows", lambda self, request, store: None)


def exit_states_not_kept(patch: pytest.MonkeyPatch) -> None:
    plain = TensorRTRuntime._keep
    patch.setattr(TensorRTRuntime, "_keep", lambda self, store: plain(self, replace(store, rows=(0,))))


FAULTS = [early_read, wrong_parity, scores_copied_late, rows_of_the_wrong_layer, exit_states_not_kept]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_fault_in_the_adapter_shows(
    jetson_bundle: Bundle, board: Board, fault: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, device = HostRuntime(jetson_bundle, 1), board.runtime(jetson_bundle)
    policies: list[ExitPolicy] = [half(jetson_bundle), UpAndDown()]
    fault(monkeypatch)  # type: ignore[operator]
    equal = True
    for seed in range(3):
        for policy in policies:
            wanted = captioned(jetson_bundle, host, policy, seed)
            try:
                equal = equal and same(wanted, captioned(jetson_bundle, device, policy, seed))
            except MueEdgeError:
                equal = False
    assert not equal
