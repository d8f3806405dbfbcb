"""What only a Mac or a phone can say of ML packages: every function on every unit, against the evaluator.

Inputs are those that the golden answers lead to. Core ML chooses by itself what runs where: a unit is what it
was allowed to use beside the CPU.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mue_edge.arrays import Array
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port
from mue_edge.loop.replay import replay
from mue_edge.targets import golden
from mue_edge.targets.coreml.runtime import CoreMLRuntime, Evaluated
from mue_edge.targets.executorch.methods import Methods
from mue_edge.targets.verify import verify

RUNS = 20
# Of a perfect copy; infinity is no JSON.
BEST_PSNR = 200.0


@dataclass(frozen=True)
class CheckedFunction:
    """A segment on a unit: the lowest peak signal-to-noise ratio of its outputs, in dB; the seconds of the
    first call, with loading, and the median of later ones."""

    psnr: float
    first_seconds: float
    seconds: float


class Recorder:
    """Methods that keep the inputs and outputs of every segment's first call, as arrays."""

    def __init__(self, inner: Methods, bundle: Bundle) -> None:
        self._inner, self._segments = inner, bundle.manifest.segments
        self.calls: dict[str, tuple[list[Array], list[Array]]] = {}

    def run(self, segment: str, inputs: Sequence[Any]) -> Sequence[Any]:
        made = self._inner.run(segment, inputs)
        if segment not in self.calls:
            entry = self._segments[segment]
            self.calls[segment] = (
                [self.array(x, port) for x, port in zip(inputs, entry.inputs.values())],
                [self.array(y, port) for y, port in zip(made, entry.outputs.values())],
            )
        return made

    def tensor(self, array: Array) -> Any:
        return self._inner.tensor(array)

    def array(self, tensor: Any, port: Port) -> Array:
        return self._inner.array(tensor, port)

    def close(self) -> None:
        self._inner.close()


def recorded(bundle: Bundle) -> dict[str, tuple[list[Array], list[Array]]]:
    """Segment → inputs and the evaluator's outputs of its first call among the golden answers."""
    recorder = Recorder(Evaluated(bundle.path, bundle.manifest.segments, bundle=bundle), bundle)
    runtime = CoreMLRuntime(bundle, recorder)
    shown, logs = golden.read(bundle)
    for entry in logs:
        runtime.set_pixels(golden.pixels(shown[entry.picture], bundle.manifest.preprocess))
        replay(entry.log, bundle.manifest.layout, bundle.manifest.search, runtime)
    runtime.close()
    return recorder.calls


def check(bundle: Bundle, on: Mapping[str, Methods]) -> dict[str, Any]:
    """Unit → its functions, and the golden answers through it. Raises VerificationError as `verify` does."""
    calls = recorded(bundle)
    found = {}
    for unit, methods in on.items():
        functions = {name: asdict(_function(bundle, methods, name, *calls[name])) for name in calls}
        answers = verify(bundle, CoreMLRuntime(bundle, methods))
        methods.close()
        found[unit] = {"functions": functions, "golden": asdict(answers)}
    return found


def _function(
    bundle: Bundle, methods: Methods, name: str, inputs: Sequence[Array], wanted: Sequence[Array]
) -> CheckedFunction:
    tensors = [methods.tensor(x) for x in inputs]
    times = []
    for _ in range(1 + RUNS):
        begun = time.perf_counter()
        made = methods.run(name, tensors)
        times.append(time.perf_counter() - begun)
    ports = bundle.manifest.segments[name].outputs.items()
    ratios = [
        psnr(w, methods.array(y, p)) for w, y, (port, p) in zip(wanted, made, ports) if port != "top_ids"
    ]
    return CheckedFunction(min(ratios), times[0], statistics.median(times[1:]))


def psnr(wanted: Array, found: Array) -> float:
    """20 · log10(peak of `wanted` / root mean square of the difference), in dB, at most BEST_PSNR."""
    a, b = wanted.astype(np.float64), found.astype(np.float64)
    error, peak = float(np.sqrt(np.mean((a - b) ** 2))), float(np.abs(a).max())
    if not np.isfinite(error):
        return 0.0
    return BEST_PSNR if error == 0 else min(BEST_PSNR, float(20 * np.log10(max(peak, 1e-30) / error)))
