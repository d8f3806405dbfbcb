"""Runs a function of an ML program with torch, operation by operation.

Modes: "fp32" takes every declared half for a float (the graph itself is checked); "declared" computes each
operation in float32 and rounds its result to the declared type (halves, accumulated in float32); "native"
uses torch's own kernels in the declared type. Every result's shape is compared with the declared one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mue_edge.errors import InputFileError, MueEdgeError, UsageError, VerificationError
from mue_edge.targets.mil import arithmetic, compressed, shapes
from mue_edge.targets.mil.arguments import Arguments, Evaluated, Rule
from mue_edge.targets.mil.blob import Blob, read
from mue_edge.targets.mil.program import Function, Kind, Operation, Program, Value

Mode = Literal["fp32", "declared", "native"]
# Sees every operation with what it made.
Watch = Callable[[Operation, tuple[Tensor, ...]], None]

OPERATIONS: Mapping[str, Rule] = {**arithmetic.OPERATIONS, **shapes.OPERATIONS, **compressed.OPERATIONS}


class Evaluator:
    """One function, its constants made ready."""

    def __init__(self, program: Program, function: str = "main", mode: Mode = "declared") -> None:
        functions = program.functions
        if function not in functions:
            raise UsageError(f"{program.folder}: no function {function!r}; it has: {', '.join(functions)}")
        self.function: Function = functions[function]
        self.mode: Mode = mode
        self._folder = program.folder
        self._constants: dict[str, Evaluated] = {}
        self._operations: list[Operation] = []
        # Operation → the values that it is the last to use.
        self._unused_after: dict[int, list[str]] = defaultdict(list)
        with torch.no_grad():
            self._prepare()

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Tensor], watch: Watch | None = None) -> dict[str, Tensor]:
        """Outputs by name. Raises VerificationError for a result whose shape is not the declared one."""
        values: dict[str, Evaluated] = {}
        for port in self.function.inputs:
            if port.name not in inputs:
                raise UsageError(f"input {port.name!r} is missing; given: {', '.join(inputs)}")
            if port.name in self.function.pictures and inputs[port.name].dtype != torch.uint8:
                raise UsageError(f"input {port.name!r} is a picture: give grey levels as uint8")
            values[port.name] = self._declared(inputs[port.name], port.kind, port.name)
        for i, op in enumerate(self._operations):
            results = self._run(op, values)
            values.update(zip((out.name for out in op.outputs), results, strict=True))
            if watch is not None:
                watch(op, results)
            for name in self._unused_after[i]:
                values.pop(name, None)
        outputs = {name: self._constants.get(name, values.get(name)) for name in self.function.results}
        return {name: value for name, value in outputs.items() if isinstance(value, Tensor)}

    def _prepare(self) -> None:
        for op in self.function.operations:
            if op.type == "const":
                self._constants[op.name] = self._constant(op.attributes["val"], op.name)
            elif op.type.startswith("constexpr_"):
                self._constants[op.name] = self._run(op, {})[0]
            else:
                self._operations.append(op)
        last: dict[str, int] = {}
        for i, op in enumerate(self._operations):
            last |= dict.fromkeys((*op.reads, *(out.name for out in op.outputs)), i)
        for name, i in last.items():
            if name not in self.function.results:
                self._unused_after[i].append(name)

    def _run(self, op: Operation, values: Mapping[str, Evaluated]) -> tuple[Tensor, ...]:
        rule = OPERATIONS.get(op.type)
        if rule is None:
            known = ", ".join(sorted(OPERATIONS))
            raise InputFileError(f"operation {op.type!r} ({op.name}) cannot be evaluated; known: {known}")
        arguments: dict[str, tuple[Evaluated, ...]] = {
            name: (self._constant(v, name),) for name, v in op.attributes.items() if name != "name"
        }
        for name, inputs in op.inputs.items():
            arguments[name] = tuple(self._argument(value, values) for value in inputs)
        try:
            result = rule(Arguments(arguments))
            outputs = zip(result if isinstance(result, tuple) else (result,), op.outputs, strict=True)
            return tuple(self._declared(value, out.kind, out.name) for value, out in outputs)
        except VerificationError:
            raise
        except (MueEdgeError, RuntimeError, IndexError, ValueError, TypeError) as problem:
            raise InputFileError(f"operation {op.type!r} ({op.name}): {problem}") from problem

    def _argument(self, source: str | Value, values: Mapping[str, Evaluated]) -> Evaluated:
        if isinstance(source, Value):
            return self._constant(source, "")
        for known in (self._constants, values):
            if source in known:
                return known[source]
        raise InputFileError(f"{self._folder}: nothing makes the value {source!r}")

    def _constant(self, value: Value, name: str) -> Evaluated:
        data = value.data
        if isinstance(data, Blob):
            data = read(self._folder, data, value.kind.dtype, value.kind.sizes)
        if data is None or isinstance(data, str):
            return data
        own = np.array(data, np.int32 if data.dtype.kind in "iu" else data.dtype)
        return self._declared(torch.from_numpy(own), value.kind, name)

    def _declared(self, value: Tensor, kind: Kind, name: str) -> Tensor:
        """The value as the mode has values of that kind. Raises VerificationError if it cannot be one."""
        shape = kind.shape
        if len(shape) != value.dim() or any(w not in (None, n) for w, n in zip(shape, value.shape)):
            raise VerificationError(f"{name} has shape {list(value.shape)}, the program declares {list(shape)}")
        if kind.dtype == "float16":
            if self.mode == "native":
                return value.half()
            return value.float() if self.mode == "fp32" else value.half().float()
        if kind.dtype in ("float32", "bool"):
            return value.to(getattr(torch, kind.dtype))
        # Whole numbers are kept in 32 bits: of a smaller declared type they must be within its limits.
        if kind.dtype in ("int8", "int16", "uint8", "uint16") and value.numel():
            limits = np.iinfo(kind.dtype)
            if int(value.min()) < limits.min or int(value.max()) > limits.max:
                raise VerificationError(f"{name} holds values that are no {kind.dtype}")
        return value.int()
