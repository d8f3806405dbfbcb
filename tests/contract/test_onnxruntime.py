"""ONNX Runtime: every segment, and the loop through the host target's own adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

ort = pytest.importorskip("onnxruntime", reason="pip install 'mue-edge[export]'")

from mue_edge.bundle.folder import open_bundle  # noqa: E402
from mue_edge.loop.driver import Runtime  # noqa: E402
from mue_edge.loop.replay import run  # noqa: E402
from mue_edge.rules import RULES  # noqa: E402
from mue_edge.targets.host import HostRuntime  # noqa: E402
from tests.contract.adapters import (  # noqa: E402
    Ports,
    assert_loop_equals_reference,
    assert_piece_equals_torch,
    elsewhere,
    on,
    signature,
)
from tests.contract.cuts import Case, make_case, pictures, policies  # noqa: E402

POLICIES = ("never", "half", "decayed", "fixed", "up-and-down", "late")


class Sessions:
    """The segments of a folder."""

    def __init__(self, folder: Path, case: Case) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.made: dict[str, Any] = {
            piece.name: ort.InferenceSession(str(folder / "segments" / f"{piece.name}.onnx"), options)
            for piece in case.cut.pieces
        }

    def __call__(self, name: str, inputs: Sequence[Tensor]) -> list[Tensor]:
        session = self.made[name]
        fed = {port.name: x.numpy() for port, x in zip(session.get_inputs(), inputs, strict=True)}
        return [torch.from_numpy(np.asarray(y)) for y in session.run(None, fed)]


def test_signatures_and_segments(case: Case, onnx_folders: dict[str, Path]) -> None:
    sessions = Sessions(onnx_folders[case.name], case)
    for piece in case.cut.pieces:
        session = sessions.made[piece.name]
        found = Ports(
            {port.name: tuple(port.shape) for port in session.get_inputs()},
            {port.name: tuple(port.shape) for port in session.get_outputs()},
        )
        assert found == signature(piece), piece.name
        assert list(found.inputs) == list(piece.inputs) and list(found.outputs) == list(piece.outputs)
        assert_piece_equals_torch(piece, sessions)


@pytest.mark.parametrize("name", ["prompt", "joint"])
def test_host_loop_equals_reference(name: str, onnx_folders: dict[str, Path]) -> None:
    """`targets.host.HostRuntime` on the bundle, greedy (joint) and beam 3 (prompt)."""
    case = make_case(name)
    bundle = open_bundle(onnx_folders[name])
    assert bundle.manifest.layout == case.layout
    runtime = HostRuntime(bundle, threads=1)

    def with_picture(picture: NDArray[np.float32]) -> Runtime:
        runtime.set_pixels(picture)
        return runtime

    rules = ("uniform-skip", *(rule for rule in RULES if rule in policies(name)))
    assert {"calm-softmax", "deebert", "pabee"} < set(rules)
    assert name != "prompt" or {"calm-classifier", "gate"} < set(rules)
    assert_loop_equals_reference(case, with_picture, (*POLICIES, *rules))
    # Without a trace little is read, and stretches without a test run as one.
    for rule in (*POLICIES, *rules):
        for picture in pictures():
            traced, plain = (
                run(case.layout, case.settings, policies(name)[rule], with_picture(picture), trace=trace)
                for trace in (True, False)
            )
            assert (plain.depths, plain.steps, plain.hypotheses) == (traced.depths, traced.steps, traced.hypotheses)
    runtime.close()


def test_text_branch_loop_equals_reference(onnx_folders: dict[str, Path]) -> None:
    """No prompt folded in: the words are encoded on the device, padding hidden by the biases."""
    case = make_case("text")
    sessions = Sessions(onnx_folders["text"], case)
    assert_loop_equals_reference(case, on(elsewhere(case.cut, sessions)), POLICIES)
