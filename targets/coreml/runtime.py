"""ML packages of a bundle as a runtime, and running them by our own evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mue_edge.arrays import Array, np
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port, Preprocess, Segment
from mue_edge.errors import missing_extra
from mue_edge.targets.coreml.packages import LEVELS, Packages
from mue_edge.targets.executorch.methods import MethodsRuntime

if TYPE_CHECKING:
    from mue_edge.targets.mil.evaluator import Evaluator, Mode


def levels(pixels: Array, p: Preprocess) -> Array:
    """Grey levels (uint8) of what `image.preprocess` made of a picture: exactly those that it was made of."""
    mean, std = (np.array(x, np.float32)[:, None, None] for x in (p.mean, p.std))
    grey: Array = np.rint((pixels * std + mean) * 255).clip(0, 255).astype(LEVELS)
    return grey


class CoreMLRuntime(MethodsRuntime):
    """A bundle of ML packages. The stem takes a picture where the others take numbers."""

    def set_pixels(self, pixels: object) -> None:
        """The picture to caption, [1, 3, H, W]: grey levels, or float32 as `image.preprocess` makes them."""
        values = np.asarray(pixels)
        grey = values if values.dtype == LEVELS else levels(values, self.bundle.manifest.preprocess)
        super().set_pixels(grey)


class Evaluated:
    """Packages as `methods.Methods`, run by the evaluator. Tensors are torch's, halves too in float32."""

    def __init__(
        self, folder: Path, segments: Mapping[str, Segment], mode: Mode = "declared", bundle: Bundle | None = None
    ) -> None:
        try:
            import torch
        except ImportError as problem:
            raise missing_extra("torch", "coreml") from problem
        self._torch, self._segments, self._mode = torch, segments, mode
        self._packages = Packages(folder, segments, bundle)
        self._evaluators: dict[str, Evaluator] = {}

    def run(self, segment: str, inputs: Sequence[Any]) -> Sequence[Any]:
        entry = self._segments[segment]
        outputs = self.evaluator(segment)(dict(zip(entry.inputs, inputs, strict=True)))
        return [outputs[port] for port in entry.outputs]

    def tensor(self, array: Array) -> Any:
        """A copy, whatever the array's type."""
        return self._torch.from_numpy(np.array(array))

    def array(self, tensor: Any, port: Port) -> Array:
        values: Array = tensor.numpy().astype(port.dtype)
        return values

    def close(self) -> None:
        self._evaluators.clear()
        self._packages.programs.clear()

    def evaluator(self, segment: str) -> Evaluator:
        """The segment's function, made ready at first use, after its package's hashes were checked."""
        from mue_edge.targets.mil.evaluator import Evaluator

        if segment not in self._evaluators:
            self._evaluators[segment] = Evaluator(*self._packages.function(segment), self._mode)
        return self._evaluators[segment]
