"""What only a Mac or a phone can say of ML packages: every function on every unit, against the evaluator.

Inputs are those that the golden answers lead to. A unit is what Core ML was allowed to use beside the CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mue_edge.arrays import Array
from mue_edge.bundle.folder import Bundle
from mue_edge.loop.replay import replay
from mue_edge.targets import golden
from mue_edge.targets.coreml.runtime import CoreMLRuntime, Evaluated
from mue_edge.targets.executorch.methods import Methods
from mue_edge.targets.verify import shown, verify

RUNS = 20
# Of a perfect copy; infinity is no JSON.
BEST_PSNR = 200.0


class Recorder(Evaluated):
    """The evaluator, which keeps the inputs and outputs of every segment's first call, as arrays."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle.path, bundle.manifest.segments, bundle=bundle)
        self.calls: dict[str, tuple[list[Array], list[Array]]] = {}

    def run(self, segment: str, inputs: Sequence[Any]) -> Sequence[Any]:
        outputs = super().run(segment, inputs)
        if segment not in self.calls:
            entry = self._segments[segment]
            self.calls[segment] = (
                [self.array(x, port) for x, port in zip(inputs, entry.inputs.values())],
                [self.array(y, port) for y, port in zip(outputs, entry.outputs.values())],
            )
        return outputs


def check(bundle: Bundle, on: Mapping[str, Methods]) -> dict[str, Any]:
    """Unit → its functions, and the golden answers through it. Raises VerificationError as `verify` does."""
    recorder = Recorder(bundle)
    runtime = CoreMLRuntime(bundle, recorder)
    for entry in shown(bundle, runtime):
        replay(entry.log, bundle.manifest.layout, bundle.manifest.search, runtime, source=entry.source)
    runtime.close()
    measured = {}
    for unit, methods in on.items():
        functions = {name: _function(bundle, methods, name, *call) for name, call in recorder.calls.items()}
        answers = verify(bundle, CoreMLRuntime(bundle, methods))
        measured[unit] = {"functions": functions, "golden": asdict(answers)}
        methods.close()
    return measured


def _function(
    bundle: Bundle, methods: Methods, name: str, inputs: Sequence[Array], wanted: Sequence[Array]
) -> dict[str, float]:
    """A segment on a unit: the lowest peak signal-to-noise ratio of its outputs, in dB; the seconds of the
    first call, with loading, and the median of later ones."""
    tensors = [methods.tensor(x) for x in inputs]
    times = []
    for _ in range(1 + RUNS):
        start = time.perf_counter()
        outputs = methods.run(name, tensors)
        times.append(time.perf_counter() - start)
    ports = bundle.manifest.segments[name].outputs.items()
    ratios = [psnr(w, methods.array(y, p)) for w, y, (port, p) in zip(wanted, outputs, ports) if port != "top_ids"]
    return {"psnr": min(ratios), "first_seconds": times[0], "seconds": statistics.median(times[1:])}


def psnr(wanted: Array, result: Array) -> float:
    """20 · log10(peak of `wanted` / root mean square of the difference), in dB, at most BEST_PSNR."""
    error, peak = golden.rms(wanted, result), float(np.abs(wanted.astype(np.float64)).max())
    if not np.isfinite(error):
        return 0.0
    return BEST_PSNR if error == 0 else min(BEST_PSNR, float(20 * np.log10(max(peak, 1e-30) / error)))
