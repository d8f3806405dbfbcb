"""ML programs made by coremltools' builder, for tests of single operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mue_edge.targets.mil.evaluator import Mode
from tests.targets.mil.loading import load

pytest.importorskip("coremltools", reason="pip install 'mue-edge[coreml]'")

from mue_edge.export.coreml.format import ct, save, silent

Array = NDArray[Any]
Build = Callable[..., Any]
mb = ct.converters.mil.Builder


def program(build: Build, inputs: Mapping[str, Array], *, half: bool = False) -> Any:
    """The model whose `main` is what `build` makes of inputs named x, or x and y; half: of those types."""
    with silent():
        specs = [mb.TensorSpec(x.shape) for x in inputs.values()]
        named = {1: lambda x: build(x), 2: lambda x, y: build(x, y)}[len(inputs)]
        made = mb.program(input_specs=specs, opset_version=ct.target.iOS18)(named)
        kind = np.float16 if half else np.float32
        return ct.convert(
            made,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS18,
            inputs=[ct.TensorType(name, x.shape, dtype=kind) for name, x in inputs.items()],
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            skip_model_load=True,
        )


def outputs(
    folder: Path, build: Build, inputs: Mapping[str, Array], mode: Mode = "fp32", *, half: bool = False
) -> tuple[Array, ...]:
    """What the evaluator answers to the program from disk, in the program's order."""
    package = folder / "made.mlpackage"
    save(program(build, inputs, half=half), package)
    found = load(package, mode=mode)({name: torch.from_numpy(x) for name, x in inputs.items()})
    return tuple(value.numpy() for value in found.values())
