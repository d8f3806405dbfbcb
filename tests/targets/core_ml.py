"""Stand-ins of Core ML, backed by the evaluator: coremltools' compiled models, and what Objective-C's classes
of `objective_c.py` answer with."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from mue_edge.targets.mil.evaluator import Evaluator
from tests.targets.mil.loading import load
from tests.targets.objective_c import Compiler, Tensor


@cache
def loaded(package: str, function: str) -> Evaluator:
    """A function, kept: a compiled model is loaded once, and reading one takes longer than running it."""
    return load(Path(package), function)


def answers(place: str, function: str | None, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of the package that was compiled to `place`; inputs must have the declared types, pictures uint8."""
    evaluator = loaded((Path(place) / "from").read_text(), function or "main")
    for port in evaluator.function.inputs:
        wanted = "uint8" if port.name in evaluator.function.pictures else port.kind.dtype
        assert inputs[port.name].dtype == wanted, port.name
    found = evaluator({name: torch.from_numpy(x) for name, x in inputs.items()})
    kinds = {out.name: out.kind.dtype for out in evaluator.function.outputs()}
    return {name: value.numpy().astype(kinds[name]) for name, value in found.items()}


def coremltools(compiler: Compiler) -> Any:
    """What `coreml_mac` uses of the package."""

    class CompiledMLModel:
        def __init__(self, path: str, compute_units: str, *, function_name: str | None = None) -> None:
            self.path, self.units, self.function = path, compute_units, function_name

        def predict(self, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
            given = {
                name: np.asarray(x).transpose(2, 0, 1)[None].copy() if isinstance(x, Image.Image) else x
                for name, x in inputs.items()
            }
            return answers(self.path, self.function, given)

    units = SimpleNamespace(ALL="all", CPU_ONLY="cpu", CPU_AND_GPU="gpu", CPU_AND_NE="ane")
    utils = SimpleNamespace(compile_model=compiler)
    return SimpleNamespace(ComputeUnit=units, models=SimpleNamespace(CompiledMLModel=CompiledMLModel, utils=utils))


def of_bytes(place: str, function: str | None, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """As `answers`, of arrays by type, shape and bytes."""
    given = {name: np.frombuffer(raw, dtype).reshape(shape).copy() for name, (dtype, shape, raw) in inputs.items()}
    found = answers(place, function, given).items()
    return {name: (str(x.dtype), x.shape, x.tobytes()) for name, x in found}
