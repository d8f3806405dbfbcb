"""Core ML: every kind of segment and the whole loop, from packages on disk, by our own evaluator.

Nothing runs on Core ML itself: that takes Apple's system.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

ct = pytest.importorskip("coremltools", reason="pip install 'mue-edge[coreml]'")

from mue_edge.bundle.manifest import Segment  # noqa: E402
from mue_edge.export.coreml import format as coreml  # noqa: E402
from mue_edge.models.cut import Cut, Piece  # noqa: E402
from mue_edge.targets.coreml.packages import LEVELS  # noqa: E402
from mue_edge.targets.coreml.runtime import Evaluated, levels  # noqa: E402
from tests.contract.adapters import (  # noqa: E402
    assert_loop_equals_reference,
    assert_piece_equals_torch,
    elsewhere,
    on,
    structures,
)
from tests.contract.cuts import PREPROCESS, make_case  # noqa: E402

POLICIES = ("never", "decayed", "up-and-down", "late", "calm-softmax", "calm-classifier")


class Packages:
    """Segments of a folder; a call fails where names, shapes or types are not the manifest's."""

    def __init__(self, folder: Path, segments: dict[str, Segment]) -> None:
        self.segments, self.methods = segments, Evaluated(folder, segments)

    def __call__(self, name: str, inputs: Sequence[Tensor]) -> list[Tensor]:
        ports = self.segments[name].inputs.values()
        given = [
            torch.from_numpy(levels(x.numpy(), PREPROCESS)) if port.dtype == LEVELS else x
            for x, port in zip(inputs, ports)
        ]
        made = self.methods.run(name, given)
        return [y.long() if p == "top_ids" else y for p, y in zip(self.segments[name].outputs, made)]


def written(pieces: Iterable[Piece], folder: Path, backend: str) -> Packages:
    """The pieces as packages in float32."""
    cut: Any = SimpleNamespace(pieces=tuple(pieces))
    manifest: Any = SimpleNamespace(plan={"backend": backend}, precision="fp32", preprocess=PREPROCESS)
    made = coreml.write(cut, manifest, folder, lambda what, done, total: None)
    return Packages(folder, dict(made.segments))


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cut, Packages, Path]:
    """The case `prompt` as two packages of several functions."""
    folder, cut = tmp_path_factory.mktemp("coreml"), make_case("prompt").cut
    return cut, written(cut.pieces, folder, "ios18"), folder


def test_segments_equal_torch(prompt: tuple[Cut, Packages, Path], tmp_path: Path) -> None:
    """Those of `prompt`, and of the other cases what has another structure, a package each."""
    cut, packages, _ = prompt
    others = structures([make_case("text"), make_case("joint")])
    chosen = {p.name: p for _, p in others.values() if p.name.startswith(("text", "encoder", "decoder"))}
    single = written(chosen.values(), tmp_path, "ios17")
    assert len(list((tmp_path / "segments").iterdir())) == len(chosen)
    for pieces, call in ((cut.pieces, packages), (chosen.values(), single)):
        for piece in pieces:
            assert_piece_equals_torch(piece, call)


def test_loop_equals_reference(prompt: tuple[Cut, Packages, Path]) -> None:
    cut, packages, _ = prompt
    assert_loop_equals_reference(make_case("prompt"), on(elsewhere(cut, packages)), POLICIES)


def operations(spec: Any) -> Any:
    function = spec.mlProgram.functions["image_0"]
    return function.block_specializations[function.opset].operations


def change_weight(spec: Any, folder: Path) -> None:
    """One byte of one weight: the lowest bit of a float's exponent."""
    path = folder / "weights" / "weight.bin"
    data = bytearray(path.read_bytes())
    weight = next(o for o in operations(spec) if o.outputs[0].name.endswith("fc1_weight"))
    data[weight.attributes["val"].blobFileValue.offset + 64 + 3] ^= 1
    path.write_bytes(data)


def swap_outputs(spec: Any, folder: Path) -> None:
    names = {"score": "gap", "gap": "score"}
    for op in operations(spec):
        for out in op.outputs:
            out.name = names.get(out.name, out.name)
        for bound in op.inputs.values():  # one is computed from the other
            for argument in bound.arguments:
                if argument.WhichOneof("binding") == "name":
                    argument.name = names.get(argument.name, argument.name)


def other_gelu(spec: Any, folder: Path) -> None:
    modes = [o.attributes["val"].immediateValue.tensor.strings for o in operations(spec) if o.type == "const"]
    for mode in modes:
        if "EXACT" in mode.values:
            mode.values[:] = ["TANH_APPROXIMATION"]


def other_epsilon(spec: Any, folder: Path) -> None:
    norms = [op for op in operations(spec) if op.type == "layer_norm"]
    names = {op.inputs["epsilon"].arguments[0].name for op in norms}
    for op in operations(spec):
        if op.outputs[0].name in names:
            op.attributes["val"].immediateValue.tensor.floats.values[:] = [1e-3]


@pytest.mark.parametrize("change", [change_weight, swap_outputs, other_gelu, other_epsilon])
def test_a_wrong_program_is_noticed(
    change: Callable[[Any, Path], None], prompt: tuple[Cut, Packages, Path], tmp_path: Path
) -> None:
    cut, packages, folder = prompt
    segment = packages.segments["image.0"]
    shutil.copytree(folder / "segments", tmp_path / "segments")
    model = tmp_path / segment.file
    spec = ct.proto.Model_pb2.Model()
    spec.ParseFromString(model.read_bytes())
    change(spec, model.parent)
    model.write_bytes(spec.SerializeToString())
    with pytest.raises(AssertionError, match=r"image\.0\."):
        assert_piece_equals_torch(cut.piece("image.0"), Packages(tmp_path, packages.segments))
