"""Compressed weights: what the evaluator makes of them equals what coremltools decompresses them to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("coremltools", reason="pip install 'mue-edge[coreml]'")

from mue_edge.export.coreml import format as coreml
from mue_edge.targets.mil.program import read
from tests.targets.mil.loading import load
from tests.targets.mil.made import mb

ROWS, COLUMNS = 32, 64
WEIGHT = np.random.Generator(np.random.PCG64(3)).standard_normal((ROWS, COLUMNS)).astype(np.float32)


def product(system: str) -> Any:
    """x → x · WEIGHTᵀ, so that the identity gives the weight back."""
    ct = coreml.ct
    target = getattr(ct.target, coreml.SYSTEMS[system])
    with coreml.silent():
        specs = [mb.TensorSpec((COLUMNS, COLUMNS))]
        made = mb.program(input_specs=specs, opset_version=target)(lambda x: mb.linear(x=x, weight=WEIGHT))
        return ct.convert(
            made,
            convert_to="mlprogram",
            minimum_deployment_target=target,
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        )


def weight_of(model: Any, package: Path) -> np.ndarray:
    coreml.save(model, package)
    (found,) = load(package, mode="fp32")({"x": torch.eye(COLUMNS)}).values()
    return found.numpy().T


@pytest.mark.parametrize(
    ("precision", "system", "operation", "error"),
    [
        ("int8", "ios18", "constexpr_blockwise_shift_scale", 0.02),
        ("int8", "ios17", "constexpr_affine_dequantize", 0.02),
        ("int4", "ios18", "constexpr_blockwise_shift_scale", 0.3),
        ("palette6", "ios18", "constexpr_lut_to_dense", 0.2),
        ("palette6", "ios17", "constexpr_lut_to_dense", 0.2),
    ],
)
def test_weights_are_decompressed(precision: str, system: str, operation: str, error: float, tmp_path: Path) -> None:
    small = coreml.compressed(product(system), precision)
    found = weight_of(small, tmp_path / "small.mlpackage")
    used = {op.type for op in read(tmp_path / "small.mlpackage").functions["main"].operations}
    assert operation in used
    with coreml.silent():
        whole = coreml.cto.decompress_weights(small)
    np.testing.assert_allclose(found, weight_of(whole, tmp_path / "whole.mlpackage"), atol=1e-6)
    assert 0 < np.abs(found - WEIGHT).max() < error
