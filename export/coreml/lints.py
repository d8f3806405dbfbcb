"""What may make an ML program slow or wrong on a device, as far as its file says; warnings, not errors.

Rules of rank, alignment and size are knowledge of the community, not of Apple's documentation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from mue_edge.bundle.manifest import Port, Segment
from mue_edge.export.coreml.island import FLOAT32, PRODUCTS, WHOLE
from mue_edge.targets.coreml.packages import LEVELS
from mue_edge.targets.coreml.runtime import Evaluated
from mue_edge.targets.mil.program import Function, Operation

HIGHEST_RANK = 5
LARGEST_SIZE = 16384
LARGEST_HALF = float(np.finfo(np.float16).max)
# A constant of so many bytes that no weight of the model has was computed while converting.
FOLDED_BYTES = 1 << 20
LARGEST_WEIGHTS = 1 << 30
# Operations that are reported never to run on the Neural Engine.
ELSEWHERE = frozenset({"gather", "scatter", "topk", "cumsum", "cond", "while_loop"})
# What calculates or compares, rather than moving values.
CALCULATIONS = frozenset({"add", "sub", "mul", "floor_div", "mod", "maximum", "greater_equal", "select"})
SHRINKING = ("palette6", "int4")


def lint(
    segments: Mapping[str, Segment], folder: Path, precision: str, weights: Mapping[str, frozenset[int]]
) -> tuple[str, ...]:
    """Lines for the report. weights: segment → how many values each of its weights has."""
    segments_of: dict[str, list[str]] = defaultdict(list)
    halves, exact = Evaluated(folder, segments), Evaluated(folder, segments, "fp32")
    for name, segment in segments.items():
        function = halves.evaluator(name).function
        problems = [*shapes(function), *whole(function), *folded(function, weights[name])]
        if precision != "fp32":
            problems += [*floats(function), *overflow(halves, exact, name, segment)]
        for problem in dict.fromkeys(problems):
            segments_of[problem].append(name)
    lines = []
    for problem, (first, *others) in segments_of.items():
        more = f" and {len(others)} more segments" if others else ""
        lines.append(f"warning: {problem}: {first}{more}")
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
    for op in function.operations:
        if op.type in ELSEWHERE:
            yield f"operation {op.type} does not run on the Neural Engine"
        if op.type == "linear":
            rank = len(op.outputs[0].kind.shape)
            yield f"linear on rank {rank} (the Neural Engine is said to prefer convolutions of [1, d, 1, S])"
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


def whole(function: Function) -> Iterator[str]:
    """Calculations on 32-bit integers, which only the CPU is said to do."""
    kinds = function.kinds()
    for op in function.operations:
        if op.type in CALCULATIONS and any(kinds[name].dtype == "int32" for name in op.reads):
            yield f"operation {op.type} on int32"


def floats(function: Function) -> Iterator[str]:
    """float32 where halves were asked for: allowed for what leads to scores only, never for inputs but
    pictures, whose mean Core ML takes off in float32."""
    for port in function.inputs:
        if port.kind.dtype == "float32" and port.name not in function.pictures:
            yield f"{port.name} is a float32 input"
    for out in function.outputs():
        if out.name in FLOAT32 and out.kind.dtype != "float32":
            yield f"{out.name} is not float32"
    needed = {out.name for out in function.outputs() if out.name not in (*FLOAT32, *WHOLE)}
    for op in reversed(function.operations):
        wide = op.type not in ("const", "cast") and op.outputs[0].kind.dtype == "float32"
        if not needed.isdisjoint(out.name for out in op.outputs):
            needed |= op.reads
            if wide and op.reads.isdisjoint(function.pictures):
                yield f"{op.type} in float32 for what is no score"
        elif wide and op.type in PRODUCTS:
            yield f"{op.type} in float32"


def folded(function: Function, weights: frozenset[int]) -> Iterator[str]:
    """Large constants that are no weight, such as an expanded table of position biases."""
    for op in function.operations:
        size = op.outputs[0].kind.count if any(op.stored()) else 0
        if size * 2 > FOLDED_BYTES and size not in weights:
            yield f"a constant of {size} values that is no weight ({op.name})"


def overflow(halves: Evaluated, exact: Evaluated, name: str, segment: Segment) -> Iterator[str]:
    """Results that no half can hold, for inputs of normal size, and their magnitudes in float32."""
    inputs = {port: _example(p) for port, p in segment.inputs.items()}
    lost, sizes = set[str](), dict[str, float]()

    def finite(op: Operation, results: tuple[torch.Tensor, ...]) -> None:
        lost.update(out.name for out, value in zip(op.outputs, results) if not bool(value.isfinite().all()))

    def size(op: Operation, results: tuple[torch.Tensor, ...]) -> None:
        for out, value in zip(op.outputs, results):
            if out.name in lost:
                sizes[op.type] = max(sizes.get(op.type, 0.0), float(value.abs().max()))

    halves.evaluator(name)(inputs, finite)
    if lost:
        exact.evaluator(name)(inputs, size)
    for kind, largest in sizes.items():
        if not largest <= LARGEST_HALF:
            yield f"{kind} reaches {largest:.1e}, and a half ends at {LARGEST_HALF:.0f}"


def _example(port: Port) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if port.dtype == LEVELS:
        return torch.randint(0, 256, port.shape, dtype=torch.uint8, generator=generator)
    if port.dtype == "int32":
        return torch.zeros(port.shape, dtype=torch.int32)
    return torch.randn(port.shape, generator=generator)
