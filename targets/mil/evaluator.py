"""Runs a function of an ML program with torch, operation by operation.

Modes: "fp32" takes every declared half for a float (the graph itself is checked); "declared" computes each
operation in float32 and rounds its result to the declared type (halves, accumulated in float32); "native"
uses torch's own kernels in the declared type. Every result's shape is compared with the declared one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mue_edge.errors import InputFileError, MueEdgeError, UsageError, VerificationError
from mue_edge.targets.mil import arithmetic, compressed, layers, shapes
from mue_edge.targets.mil.arguments import Arguments, Evaluated, Rule
from mue_edge.targets.mil.blob import Blob, read
from mue_edge.targets.mil.program import Function, Kind, Operation, Program, Value
from mue_edge.targets.mil.program import read as read_program

Mode = Literal["fp32", "declared", "native"]
# Sees every operation with what it made.
Watch = Callable[[Operation, tuple[Tensor, ...]], None]

OPERATIONS: Mapping[str, Rule] = {
    **arithmetic.OPERATIONS, **shapes.OPERATIONS, **layers.OPERATIONS, **compressed.OPERATIONS
}  # fmt: skip


class Evaluator:
    """One function, its constants made ready."""

    def __init__(self, program: Program, function: str = "main", mode: Mode = "declared") -> None:
        known = program.functions
        if function not in known:
            raise UsageError(f"{program.folder}: no function {function!r}; it has: {', '.join(known)}")
        self.function: Function = known[function]
        self.mode: Mode = mode
        self._folder = program.folder
        self._constants: dict[str, Evaluated] = {}
        self._operations: list[Operation] = []
        self._dead: list[tuple[str, ...]] = []
        with torch.no_grad():
            self._prepare()

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Tensor], watch: Watch | None = None) -> dict[str, Tensor]:
        """Outputs by name. Raises VerificationError for a result whose shape is not the declared one."""
        values: dict[str, Evaluated] = {}
        for given in self.function.inputs:
            if given.name not in inputs:
                raise UsageError(f"input {given.name!r} is missing; given: {', '.join(inputs)}")
            if given.name in self.function.pictures and inputs[given.name].dtype != torch.uint8:
                raise UsageError(f"input {given.name!r} is a picture: give grey levels as uint8")
            values[given.name] = self._declared(inputs[given.name], given.kind, given.name)
        for op, dead in zip(self._operations, self._dead, strict=True):
            made = self._run(op, values)
            values.update(zip((out.name for out in op.outputs), made, strict=True))
            if watch is not None:
                watch(op, made)
            for name in dead:
                values.pop(name, None)
        found = {name: self._constants.get(name, values.get(name)) for name in self.function.block.outputs}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def _prepare(self) -> None:
        """Constants are evaluated once; of the rest, what each operation is the last to use."""
        for op in self.function.block.operations:
            if op.type == "const":
                self._constants[op.name] = self._constant(op.attributes["val"], op.name)
            elif op.type.startswith("constexpr_"):
                self._constants[op.name] = self._run(op, {})[0]
            else:
                self._operations.append(op)
        kept, last = set(self.function.block.outputs), dict[str, int]()
        for i, op in enumerate(self._operations):
            used = (name for values in op.inputs.values() for name in values if isinstance(name, str))
            last |= dict.fromkeys((*used, *(out.name for out in op.outputs)), i)
        dead: list[list[str]] = [[] for _ in self._operations]
        for name, i in last.items():
            if name not in kept:
                dead[i].append(name)
        self._dead = [tuple(names) for names in dead]

    def _run(self, op: Operation, values: Mapping[str, Evaluated]) -> tuple[Tensor, ...]:
        rule = OPERATIONS.get(op.type)
        if rule is None:
            known = ", ".join(sorted(OPERATIONS))
            raise InputFileError(f"operation {op.type!r} ({op.name}) cannot be evaluated; known: {known}")
        given = {name: tuple(self._argument(v, values) for v in bound) for name, bound in op.inputs.items()}
        extra = {n: (self._constant(v, n),) for n, v in op.attributes.items() if n not in (*given, "name")}
        try:
            made = rule(Arguments(given | extra))
            outputs = made if isinstance(made, tuple) else (made,)
            declared = zip(outputs, op.outputs, strict=True)
            return tuple(self._declared(value, out.kind, out.name) for value, out in declared)
        except VerificationError:
            raise
        except (MueEdgeError, RuntimeError, IndexError, ValueError, TypeError) as problem:
            raise InputFileError(f"operation {op.type!r} ({op.name}): {problem}") from problem

    def _argument(self, bound: str | Value, values: Mapping[str, Evaluated]) -> Evaluated:
        if isinstance(bound, Value):
            return self._constant(bound, "")
        if bound in self._constants:
            return self._constants[bound]
        if bound not in values:
            raise InputFileError(f"{self._folder}: nothing makes the value {bound!r}")
        return values[bound]

    def _constant(self, value: Value, name: str) -> Evaluated:
        data = value.data
        if isinstance(data, Blob):
            shape = tuple(size or 0 for size in value.kind.shape)
            data = read(self._folder, data, value.kind.dtype, shape)
        if isinstance(data, np.ndarray):
            own = np.array(data, np.int32 if data.dtype.kind in "iu" else data.dtype)
            return self._declared(torch.from_numpy(own), value.kind, name)
        if isinstance(data, str):
            return data
        return tuple(part for part in data if isinstance(part, str))

    def _declared(self, value: Tensor, kind: Kind, name: str) -> Tensor:
        """The value as the mode has values of that kind. Raises VerificationError if it cannot be one."""
        shape = kind.shape
        if len(shape) != value.dim() or any(w not in (None, n) for w, n in zip(shape, value.shape)):
            raise VerificationError(
                f"{name} has shape {list(value.shape)}, the program declares {list(shape)}"
            )
        if kind.dtype == "float16":
            if self.mode == "native":
                return value.half()
            return value.float() if self.mode == "fp32" else value.half().float()
        if kind.dtype == "float32":
            return value.float()
        if kind.dtype == "bool":
            return value.bool()
        _check_range(value, kind.dtype, name)
        return value.int()


def _check_range(value: Tensor, dtype: str, name: str) -> None:
    """Whole numbers are kept in 32 bits: of a smaller declared type they must be within its limits."""
    if dtype in ("int8", "int16", "uint8", "uint16") and value.numel():
        limits = np.iinfo(dtype)
        if int(value.min()) < limits.min or int(value.max()) > limits.max:
            raise VerificationError(f"{name} holds values that are no {dtype}")


def load(package: Path, function: str = "main", mode: Mode = "declared") -> Evaluator:
    """A function of an `.mlpackage`, ready to run."""
    return Evaluator(read_program(package), function, mode)
