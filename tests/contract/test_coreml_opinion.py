"""A second opinion on our evaluator: coremltools' own value inference on the operations of whole segments.

coremltools computes the value of an operation on constants while it builds a program. So each operation of
an exported function is built again on the values of those before it; what comes out at the end is its answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

ct = pytest.importorskip("coremltools", reason="pip install 'mue-edge[coreml]'")

from mue_edge.export.coreml import format as coreml  # noqa: E402
from mue_edge.targets.mil import blob  # noqa: E402
from mue_edge.targets.mil.evaluator import Evaluator  # noqa: E402
from mue_edge.targets.mil.program import Program, Value, read  # noqa: E402
from tests.contract.cuts import PREPROCESS, make_case  # noqa: E402

Array = NDArray[Any]
mb = ct.converters.mil.Builder


def inferred(program: Program, inputs: Mapping[str, Array]) -> dict[str, Any]:
    """Outputs of `main`, every operation computed by coremltools."""
    function = program.functions["main"]
    values: dict[str, Any] = dict(inputs)

    def constant(value: Value) -> Any:
        if isinstance(value.data, blob.Blob):
            shape = tuple(size or 0 for size in value.kind.shape)
            return np.array(blob.read(program.folder, value.data, value.kind.dtype, shape))
        return value.data.item() if isinstance(value.data, np.ndarray) and not value.kind.shape else value.data

    def build(start: Any) -> Any:
        for op in function.operations:
            if op.type == "const":
                values[op.name] = constant(op.attributes["val"])
                continue
            given: dict[str, Any] = {}
            for name, bound in op.inputs.items():
                taken = [constant(x) if isinstance(x, Value) else values[x] for x in bound]
                given[name] = taken if name == "values" else taken[0]
            made = getattr(mb, op.type)(**given)
            for out, var in zip(op.outputs, made if isinstance(made, (list, tuple)) else (made,), strict=True):
                assert var.val is not None, f"coremltools infers no value of {op.type}"
                values[out.name] = var.val
        return start

    with coreml.silent():
        mb.program(input_specs=[mb.TensorSpec((1,))], opset_version=ct.target.iOS18)(build)
    return {name: values[name] for name in function.results}


@pytest.mark.parametrize("name", ["image.0", "cross_kv.0", "decoder.0", "fill.1", "embed", "head"])
def test_coremltools_infers_the_same(name: str, tmp_path: Path) -> None:
    piece, package = make_case("prompt").cut.piece(name), tmp_path / "made.mlpackage"
    coreml.save(coreml.converted(piece, "fp32", "ios18", preprocess=PREPROCESS), package)
    program = read(package)
    generator = torch.Generator().manual_seed(1)
    inputs = {
        port: torch.randn(x.shape, generator=generator)
        if x.is_floating_point()
        else torch.randint(0, 9, x.shape, generator=generator, dtype=torch.int32)
        for port, x in piece.inputs.items()
    }
    ours = Evaluator(program)(inputs)
    theirs = inferred(program, {port: x.numpy() for port, x in inputs.items()})
    for port, wanted in theirs.items():
        np.testing.assert_allclose(ours[port].numpy(), wanted, rtol=1e-4, atol=1e-5, err_msg=port)
