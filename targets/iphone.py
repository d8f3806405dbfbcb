"""The iphone target: Core ML where it is, our own evaluator of ML programs elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mue_edge.arrays import Array
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port
from mue_edge.errors import EnvironmentLacksError
from mue_edge.loop.policy import Policy
from mue_edge.measuring import profile
from mue_edge.targets import choice
from mue_edge.targets.coreml.runtime import CoreMLRuntime, Evaluated
from mue_edge.targets.executorch.methods import Methods

UNITS = ("cpu", "gpu", "ane")
# Core ML chooses.
ALL = "all"
_warned = False


class ByStack:
    """As `methods.Methods`, each stack on a unit of its own. units: stack → unit; on: unit → methods."""

    def __init__(self, units: Mapping[str, str], on: Mapping[str, Methods]) -> None:
        self._units, self._on, self._default = units, on, on[ALL]

    def run(self, segment: str, inputs: Sequence[Any]) -> Sequence[Any]:
        return self._on[self._units.get(segment.partition(".")[0], ALL)].run(segment, inputs)

    def tensor(self, array: Array) -> Any:
        return self._default.tensor(array)

    def array(self, tensor: Any, port: Port) -> Array:
        return self._default.array(tensor, port)

    def close(self) -> None:
        for methods in self._on.values():
            methods.close()


def open_runtime(bundle: Bundle, threads: int | None = None) -> CoreMLRuntime:
    """A bundle of ML packages on this machine, each stack on the unit that was chosen for it here."""
    chosen = profile.chosen_of(bundle).items()
    units = {what.removeprefix("unit."): unit for what, unit in chosen if what.startswith("unit.")}
    on = _native(bundle, {ALL, *units.values()})
    if not on:
        return CoreMLRuntime(bundle, evaluated(bundle, threads))
    return CoreMLRuntime(bundle, ByStack(units, on) if units else on[ALL])


def _native(bundle: Bundle, units: Iterable[str]) -> dict[str, Methods]:
    """Unit → Core ML on it; empty where there is no Core ML."""
    on = {unit: native(bundle, unit) for unit in units}
    return {unit: methods for unit, methods in on.items() if methods is not None}


def native(bundle: Bundle, units: str = "all") -> Methods | None:
    """Core ML itself, allowed to use `units` beside the CPU; None where there is no Core ML."""
    if sys.platform == "darwin":
        from mue_edge.targets.coreml.mac import Compiled

        return Compiled(bundle, units)
    if sys.platform == "ios":
        from mue_edge.targets.coreml.objc import Models, rubicon

        return Models(bundle, rubicon(), units)
    return None


def evaluated(bundle: Bundle, threads: int | None = None) -> Methods:
    """The evaluator, in the declared precision. It says once that this is slow."""
    global _warned
    methods = Evaluated(bundle.path, bundle.manifest.segments, bundle=bundle)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    if not _warned:
        _warned = True
        logging.getLogger("mue_edge").warning(
            "no Core ML on this machine: mue-edge's own evaluator runs the ML programs, slowly; it shows "
            "what they answer, not how fast a phone is"
        )
    return methods


def measure(runtime: Any, pictures: list[object], policies: list[Policy]) -> dict[str, Any]:
    """Every function on CPU, GPU and Neural Engine, see `coreml_check`, and each stack's best. Raises
    EnvironmentLacksError where there is no Core ML."""
    from mue_edge.targets.coreml.check import check

    bundle: Bundle = runtime.bundle
    on = _native(bundle, UNITS)
    if not on:
        raise EnvironmentLacksError(
            "there is no Core ML here: only a Mac or a phone signs off a bundle for iphone; on a Mac: "
            "mue-edge verify BUNDLE --device"
        )
    measured = check(bundle, on)
    return {"units": measured, "chosen": choice.units(measured)}
