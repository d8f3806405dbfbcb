"""Lints of ML programs: each rule on a program that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("coremltools", reason="pip install 'mue-edge[coreml]'")

from mue_edge.bundle.manifest import Segment
from mue_edge.export.coreml import format as coreml
from mue_edge.export.coreml import lints as coreml_lints
from mue_edge.export.coreml.lints import floats, lint, shapes
from mue_edge.targets.coreml.packages import MODEL, signature
from mue_edge.targets.mil.program import Function, Kind, NamedType, Operation, read
from tests.targets.mil.made import mb, program

X = {"x": np.ones((2, 64), np.float32)}


def squared(x: Any) -> Any:
    return mb.mul(x=x, y=x)


LARGE = np.ones((1024, 1024), np.float32)


def found(build: Callable[..., Any], folder: Path, precision: str = "fp16") -> str:
    package = folder / "segments" / "made.mlpackage"
    coreml.save(program(build, X, half=precision == "fp16"), package)
    ports = signature(read(package).functions["main"])
    segments = {"image.0": Segment(f"segments/made.mlpackage/{MODEL}", *ports)}
    return "\n".join(lint(segments, folder, precision, {"image.0": frozenset({64 * 3})}))


@pytest.mark.parametrize(
    ("words", "build"),
    [
        ("a size over 16384", lambda x: mb.concat(values=[mb.reshape(x=x, shape=[128])] * 129, axis=0)),
        ("last dimension of 1", lambda x: mb.expand_dims(x=mb.exp(x=x), axes=[2])),
        ("operation topk does not run", lambda x: mb.topk(x=x, k=2, axis=-1)),
        ("1048576 values that is no weight", lambda x: mb.add(x=mb.reduce_sum(x=x), y=LARGE)),
        ("mul reaches", lambda x: squared(mb.mul(x=x, y=np.float32(300)))),
        ("linear on rank 2", lambda x: mb.linear(x=x, weight=np.ones((3, 64), np.float32))),
        ("add on int32", lambda x: mb.cast(x=mb.add(x=mb.cast(x=x, dtype="int32"), y=1), dtype="fp32")),
    ],
)  # fmt: skip
def test_each_rule(words: str, build: Callable[..., Any], tmp_path: Path) -> None:
    precision = "fp16" if "reaches" in words else "fp32"
    assert words in found(build, tmp_path, precision)


def test_rank() -> None:
    """coremltools makes no such program, others may."""
    out = NamedType("y", Kind("float16", (1,) * 6))
    op = Operation("exp", {"x": ("x",)}, (out,), {})
    function = Function((), ("y",), (op,))
    assert "rank over 5" in list(shapes(function))


def test_a_float32_input_is_all_there_is_to_say(tmp_path: Path) -> None:
    build = lambda x: mb.mul(x=mb.softmax(x=x), y=np.float32(0.5))
    assert found(build, tmp_path) == "warning: x is a float32 input: image.0"


def typed(*operations: tuple[str, str, str, str], outputs: tuple[str, ...]) -> Function:
    """Of (type, input, output, type of the output), on one input x of halves."""
    made = tuple(
        Operation(kind, {"x": (given,)}, (NamedType(name, Kind(dtype, (2, 64))),), {})
        for kind, given, name, dtype in operations
    )
    return Function((NamedType("x", Kind("float16", (2, 64))),), outputs, made)


@pytest.mark.parametrize(
    ("words", "operations"),
    [
        ([], [("exp", "x", "y", "float16"), ("abs", "x", "score", "float32")]),
        (["score is not float32"], [("exp", "x", "y", "float16"), ("abs", "x", "score", "float16")]),
        (
            ["exp in float32 for what is no score"],
            [("exp", "x", "y", "float32"), ("abs", "x", "score", "float32")],
        ),
        (
            ["abs in float32 for what is no score"],
            [("abs", "x", "score", "float32"), ("cast", "score", "y", "float16")],
        ),
        (["linear in float32"], [("exp", "x", "y", "float16"), ("linear", "x", "score", "float32")]),
    ],
)  # fmt: skip
def test_float32_belongs_to_scores(words: list[str], operations: list[tuple[str, str, str, str]]) -> None:
    assert list(floats(typed(*operations, outputs=("y", "score")))) == words


def test_sizes_that_are_not_static() -> None:
    out = NamedType("y", Kind("float16", (None, 64)))
    function = Function((), ("y",), (Operation("exp", {}, (out,), {}),))
    assert list(shapes(function)) == ["a size that is not static"]


def test_large_weight_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = lambda x: mb.mul(x=x, y=LARGE[:1, :64] * np.arange(64, dtype=np.float32))
    assert "of weights in one package" not in found(build, tmp_path / "small")
    monkeypatch.setattr(coreml_lints, "LARGEST_WEIGHTS", 64)
    assert "of weights in one package: segments/made.mlpackage" in found(build, tmp_path / "large")


def test_few_bits_are_warned_of(tmp_path: Path) -> None:
    assert "int4 weights were reported wrong" in found(lambda x: mb.softmax(x=x), tmp_path, "int4")


def test_compressed_constants_are_seen(tmp_path: Path) -> None:
    """Their bytes too: those of the numbers that stand in the file."""
    weight = np.random.Generator(np.random.PCG64(0)).standard_normal((1024, 1024)).astype(np.float32)
    model = program(lambda x: mb.linear(x=mb.concat(values=[x] * 16, axis=1), weight=weight), X)
    package = tmp_path / "made.mlpackage"
    coreml.save(coreml.compressed(model, "int8"), package)
    function = read(package).functions["main"]
    (line,) = coreml_lints.folded(function, frozenset({64}))
    assert "1048576 values" in line
    assert not list(coreml_lints.folded(function, frozenset({1024 * 1024})))
    assert weight.size < function.weight_bytes() < 1.01 * weight.size
