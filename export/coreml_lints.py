"""What may make an ML program slow or wrong on a device, as far as its file says; warnings, not errors.

Rules of rank, alignment and size are knowledge of the community, not of Apple's documentation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from mue_edge.bundle import Segment
from mue_edge.export.island import FLOAT32
from mue_edge.targets.coreml import Evaluated
from mue_edge.targets.mil.blob import Blob
from mue_edge.targets.mil.program import Function, Operation

HIGHEST_RANK = 5
LARGEST_SIZE = 16384
LARGEST_HALF = float(np.finfo(np.float16).max)
# A constant of so many bytes that no weight of the model has was computed while converting.
FOLDED_BYTES = 1 << 20
LARGEST_WEIGHTS = 1 << 30
# Operations that are reported never to run on the Neural Engine.
ELSEWHERE = frozenset({"gather", "scatter", "topk", "cumsum", "cond", "while_loop"})
SHRINKING = ("palette6", "int4")


def lint(
    segments: Mapping[str, Segment], folder: Path, precision: str, weights: Mapping[str, frozenset[int]]
) -> tuple[str, ...]:
    """Lines for the report. weights: segment → how many values each of its weights has."""
    found: Counter[str] = Counter()
    first: dict[str, str] = {}
    evaluated = Evaluated(folder, segments, "fp32")
    for name, segment in segments.items():
        function = evaluated.evaluator(name).function
        problems = [*shapes(function), *folded(function, weights[name])]
        if precision != "fp32":
            problems += [*floats(function), *overflow(evaluated, name, segment)]
        for problem in dict.fromkeys(problems):
            found[problem] += 1
            first.setdefault(problem, name)
    lines = [
        f"warning: {problem}: {first[problem]}{f' and {n - 1} more segments' if n > 1 else ''}"
        for problem, n in found.items()
    ]
    for file in {s.file for s in segments.values()}:
        weight_file = (folder / file).with_name("weights") / "weight.bin"
        if weight_file.is_file() and weight_file.stat().st_size > LARGEST_WEIGHTS:
            lines.append(f"warning: more than 1 GiB of weights in one package: {file}")
    if precision in SHRINKING:
        lines.append(
            f"warning: {precision} weights were reported wrong on devices (coremltools 9.0): check there "
            "with mue-edge verify BUNDLE --device, and calibrate again"
        )
    return tuple(lines)


def shapes(function: Function) -> Iterator[str]:
    """Ranks and sizes that the Neural Engine is said not to take, and padding that wastes memory."""
    for op in function.block.operations:
        if op.type in ELSEWHERE:
            yield f"operation {op.type} does not run on the Neural Engine"
        for out in op.outputs:
            sizes = out.kind.shape
            if op.type != "const" and len(sizes) > HIGHEST_RANK:
                yield f"rank over {HIGHEST_RANK}"
            if any(size is None for size in sizes):
                yield "a size that is not static"
            if any((size or 0) > LARGEST_SIZE for size in sizes):
                yield f"a size over {LARGEST_SIZE}"
    for port in (*function.inputs, *function.outputs()):
        if len(port.kind.shape) > 1 and port.kind.shape[-1] == 1:
            yield f"{port.name} has a last dimension of 1, which is padded to 64 bytes"


def floats(function: Function) -> Iterator[str]:
    """float32 where halves were asked for: allowed for what leads to scores only, never for inputs."""
    for port in function.inputs:
        if port.kind.dtype == "float32":
            yield f"{port.name} is a float32 input"
    for out in function.outputs():
        if out.name in FLOAT32 and out.kind.dtype != "float32":
            yield f"{out.name} is not float32"
    products = {"linear", "matmul", "conv"}
    if any(op.type in products and op.outputs[0].kind.dtype == "float32" for op in function.block.operations):
        yield "a matrix product in float32"


def folded(function: Function, weights: frozenset[int]) -> Iterator[str]:
    """Large constants that are no weight, such as an expanded table of position biases."""
    for op in function.block.operations:
        for value in op.attributes.values():
            if op.type == "const" and isinstance(value.data, Blob):
                count = int(np.prod([size or 0 for size in value.kind.shape], dtype=np.int64))
                if count * 2 > FOLDED_BYTES and count not in weights:
                    yield f"a constant of {count} values that is no weight ({op.name})"


def overflow(evaluated: Evaluated, name: str, segment: Segment) -> Iterator[str]:
    """Results that no half can hold, for inputs of normal size; found by running the function in float32."""
    generator = torch.Generator().manual_seed(0)
    inputs = {
        port: torch.zeros(p.shape, dtype=torch.int32)
        if p.dtype == "int32"
        else torch.randn(p.shape, generator=generator)
        for port, p in segment.inputs.items()
    }
    worst: dict[str, float] = {}

    def watch(op: Operation, made: tuple[torch.Tensor, ...]) -> None:
        for out, value in zip(op.outputs, made):
            if out.kind.dtype == "float16" and value.numel():
                worst[op.type] = max(worst.get(op.type, 0.0), float(value.abs().max()))

    evaluated.evaluator(name)(inputs, watch)
    for kind, size in worst.items():
        if not size <= LARGEST_HALF:
            yield f"{kind} reaches {size:.1e}, and a half ends at {LARGEST_HALF:.0f}"
