"""What the evaluator refuses, what its modes do, and that a package is read as coremltools wrote it."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("coremltools", reason="pip install 'mue-edge[coreml]'")

from mue_edge.errors import InputFileError, UsageError, VerificationError
from mue_edge.export.coreml import format as coreml
from mue_edge.targets.mil import blob
from mue_edge.targets.mil.evaluator import Evaluator
from mue_edge.targets.mil.program import Kind, NamedType, Program, package_model, read
from tests.targets.mil.loading import load
from tests.targets.mil.made import mb, outputs, program

WEIGHT = np.arange(64 * 32, dtype=np.float32).reshape(64, 32) / 7
X = {"x": np.ones((2, 32), np.float32)}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One product with a weight in `weight.bin`."""
    out = tmp_path_factory.mktemp("evaluator") / "made.mlpackage"
    coreml.save(program(lambda x: mb.linear(x=x, weight=WEIGHT), X), out)
    return out


def changed(package: Path, **changes: Any) -> Program:
    """The program with its last operation changed."""
    found = read(package)
    main = found.functions["main"]
    operations = main.operations
    operations = (*operations[:-1], replace(operations[-1], **changes))
    return replace(found, functions={"main": replace(main, operations=operations)})


def test_unknown_operation_is_named(package: Path) -> None:
    evaluator = Evaluator(changed(package, type="scatter_nd"))
    with pytest.raises(InputFileError, match=r"'scatter_nd' .*known: abs"):
        evaluator({"x": torch.ones(2, 32)})


def test_declared_shape_is_held(package: Path) -> None:
    name = read(package).functions["main"].results[0]
    evaluator = Evaluator(changed(package, outputs=(NamedType(name, Kind("float32", (2, 63))),)))
    with pytest.raises(VerificationError, match=r"\[2, 64\], the program declares \[2, 63\]"):
        evaluator({"x": torch.ones(2, 32)})


def test_wrong_calls(package: Path) -> None:
    with pytest.raises(UsageError, match="no function 'other'; it has: main"):
        load(package, "other")
    with pytest.raises(UsageError, match="input 'x' is missing"):
        load(package)({})
    with pytest.raises(VerificationError, match="x has shape"):
        load(package)({"x": torch.ones(3, 32)})


def copied(package: Path, folder: Path) -> Path:
    out = folder / "copy.mlpackage"
    for path in package.rglob("*"):
        if path.is_file():
            place = out / path.relative_to(package)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    return out


@pytest.mark.parametrize("cut", [0, 1, 40, 300])
def test_damaged_program(cut: int, package: Path, tmp_path: Path) -> None:
    made = copied(package, tmp_path)
    model = package_model(made)
    model.write_bytes(model.read_bytes()[:cut])
    with pytest.raises(InputFileError):
        read(made)


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [(4, 1, "version 2"), (64, 7, "no record"), (68, 1, "holds float16"), (72, 5, "holds 5 bytes")],
)
def test_damaged_weights(at: int, value: int, words: str, package: Path, tmp_path: Path) -> None:
    made = copied(package, tmp_path)
    weights = package_model(made).parent / "weights" / "weight.bin"
    data = bytearray(weights.read_bytes())
    data[at : at + 4] = struct.pack("<I", value)
    weights.write_bytes(data)
    with pytest.raises(InputFileError, match=words):
        load(made)


def test_weights_stay_inside(package: Path) -> None:
    for name in ("@model_path/../secret", "/etc/passwd", "@model_path//x", "weights/weight.bin"):
        with pytest.raises(InputFileError, match="not inside"):
            blob.path_inside(package, name)


@pytest.mark.parametrize(("dtype", "bits"), blob.PACKED.items())
def test_small_integers_are_unpacked(dtype: str, bits: int) -> None:
    values = np.arange(13) % (1 << bits)
    stream = "".join(f"{v:0{bits}b}"[::-1] for v in values)
    octets = [int(stream[i : i + 8][::-1], 2) for i in range(0, len(stream), 8)]
    found = blob.unpack(np.array(octets, np.uint8), dtype, len(values))
    wanted = np.where(values > 7, values - 16, values) if dtype == "int4" else values
    assert found.tolist() == wanted.tolist()


def test_reading_equals_the_generated_classes(package: Path) -> None:
    """coremltools' own protobuf classes as the second opinion on ours."""
    spec = coreml.ct.utils.load_spec(str(package)).mlProgram.functions["main"]
    theirs = spec.block_specializations[spec.opset].operations
    ours = read(package).functions["main"].operations
    assert [op.type for op in ours] == [op.type for op in theirs]
    for mine, other in zip(ours, theirs):
        assert [out.name for out in mine.outputs] == [out.name for out in other.outputs]
        names = {k: tuple(b.name for b in v.arguments) for k, v in other.inputs.items()}
        assert mine.inputs == names


def test_modes_round_as_they_say(tmp_path: Path) -> None:
    """0.1 has no exact half; 2049 neither; a sum of 4096 ones counts right in float32 only."""
    x = {"x": np.full((1, 4096), 0.1, np.float32)}
    build = lambda x: mb.add(x=mb.reduce_sum(x=x, axes=[1]), y=np.float32(0.25))
    half = np.float16(0.1)
    exact, declared, native = (
        float(outputs(tmp_path, build, x, mode, half=True)[0][0]) for mode in ("fp32", "declared", "native")
    )
    assert exact == pytest.approx(409.85, abs=1e-2)
    once = np.float16(np.float32(half) * 4096)
    assert declared == float(np.float16(np.float32(once) + np.float32(0.25)))
    assert native == pytest.approx(declared, abs=1)
