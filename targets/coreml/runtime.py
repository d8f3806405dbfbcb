"""ML packages of a bundle: which function a segment is, and running them by our own evaluator.

A segment's file is its package's `model.mlmodel`; its function has the segment's name, or is `main` where
the package holds one segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mue_edge.arrays import Array, np
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port, Preprocess, Segment
from mue_edge.errors import InputFileError, missing_extra
from mue_edge.targets.executorch.methods import MethodsRuntime, method_name
from mue_edge.targets.mil.program import Function, Program, read

if TYPE_CHECKING:
    from mue_edge.targets.mil.evaluator import Evaluator, Mode

# Where an `.mlpackage` of coremltools' keeps its program.
MODEL = "Data/com.apple.CoreML/model.mlmodel"
# The type of a port that is given as a picture.
LEVELS = "uint8"


def package_of(segment: Segment) -> str:
    """The package's folder inside of the bundle. Raises InputFileError for another kind of file."""
    if not segment.file.endswith(f".mlpackage/{MODEL}"):
        raise InputFileError(f"{segment.file} is no part of an ML package; export the bundle again")
    return segment.file.removesuffix(f"/{MODEL}")


def check_files(bundle: Bundle, package: str) -> None:
    """Hash every file of a package now. Raises InputFileError."""
    for name in bundle.manifest.files:
        if name.startswith(f"{package}/"):
            bundle.file(name)


def function_of(program: Program, name: str, segment: Segment) -> str:
    """The function of a segment, whose inputs and outputs must be as the manifest says."""
    function = method_name(name)
    if function not in program.functions:
        if list(program.functions) != ["main"]:
            known = ", ".join(program.functions)
            raise InputFileError(
                f"{program.folder} has no function {function!r}; it has: {known}. Export again"
            )
        function = "main"
    inputs, outputs = signature(program.functions[function])
    if inputs != dict(segment.inputs) or outputs != dict(segment.outputs):
        raise InputFileError(
            f"{program.folder}: function {function} takes and gives {inputs}, {outputs}; the manifest says "
            f"{dict(segment.inputs)}, {dict(segment.outputs)}. Export again"
        )
    return function


def signature(function: Function) -> tuple[dict[str, Port], dict[str, Port]]:
    """Inputs and outputs by name; pictures are of the type LEVELS."""

    def ports(values: Any) -> dict[str, Port]:
        return {v.name: Port(tuple(size or 0 for size in v.kind.shape), v.kind.dtype) for v in values}

    inputs = ports(function.inputs)
    pictures = {name: replace(inputs[name], dtype=LEVELS) for name in function.pictures}
    return inputs | pictures, ports(function.outputs())


def levels(pixels: Array, p: Preprocess) -> Array:
    """Grey levels (uint8) of what `image.preprocess` made of a picture: exactly those that it was made of."""
    mean, std = (np.array(x, np.float32)[:, None, None] for x in (p.mean, p.std))
    grey = np.rint((pixels * std + mean) * 255)
    found: Array = grey.clip(0, 255).astype(LEVELS)
    return found


class CoreMLRuntime(MethodsRuntime):
    """A bundle of ML packages. The stem takes a picture where the others take numbers."""

    def set_pixels(self, pixels: object) -> None:
        """The picture to caption, [1, 3, H, W]: grey levels, or float32 as `image.preprocess` makes them."""
        given = np.asarray(pixels)
        grey = given if given.dtype == LEVELS else levels(given, self.bundle.manifest.preprocess)
        super().set_pixels(grey)


class Evaluated:
    """Packages as `methods.Methods`, run by the evaluator. Tensors are torch's, halves too in float32."""

    def __init__(
        self, folder: Path, segments: Mapping[str, Segment], mode: Mode = "declared",
        bundle: Bundle | None = None,
    ) -> None:  # fmt: skip
        try:
            import torch
        except ImportError as problem:
            raise missing_extra("torch", "coreml") from problem
        self._torch, self._folder, self._segments, self._mode = torch, folder, segments, mode
        self._bundle = bundle
        self._programs: dict[str, Program] = {}
        self._evaluators: dict[str, Evaluator] = {}

    def run(self, segment: str, inputs: Sequence[Any]) -> Sequence[Any]:
        """Tensors in and out, in the order of the segment's ports."""
        evaluator = self.evaluator(segment)
        entry = self._segments[segment]
        made = evaluator(dict(zip(entry.inputs, inputs, strict=True)))
        return [made[port] for port in entry.outputs]

    def tensor(self, array: Array) -> Any:
        """A copy, whatever the array's type."""
        return self._torch.from_numpy(np.array(array))

    def array(self, tensor: Any, port: Port) -> Array:
        """The numbers in the port's type."""
        found: Array = tensor.numpy().astype(port.dtype)
        return found

    def close(self) -> None:
        """Drop programs and constants."""
        self._evaluators.clear()
        self._programs.clear()

    def evaluator(self, segment: str) -> Evaluator:
        """The segment's function, made ready at first use, after its package's hashes were checked."""
        from mue_edge.targets.mil.evaluator import Evaluator

        if segment not in self._evaluators:
            entry = self._segments[segment]
            package = package_of(entry)
            if package not in self._programs:
                if self._bundle is not None:
                    check_files(self._bundle, package)
                self._programs[package] = read(self._folder / package)
            program = self._programs[package]
            function = function_of(program, segment, entry)
            self._evaluators[segment] = Evaluator(program, function, self._mode)
        return self._evaluators[segment]
