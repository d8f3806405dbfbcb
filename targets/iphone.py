"""The iphone target: Core ML where it is, our own evaluator of ML programs elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import Any

from mue_edge.bundle.folder import Bundle
from mue_edge.errors import EnvironmentLacksError
from mue_edge.loop.policy import Policy
from mue_edge.measuring import profile
from mue_edge.targets import choice
from mue_edge.targets.coreml.by_stack import ByStack
from mue_edge.targets.coreml.runtime import CoreMLRuntime, Evaluated
from mue_edge.targets.executorch.methods import Methods

UNITS = ("cpu", "gpu", "ane")
_told = False


def open_runtime(bundle: Bundle, threads: int | None = None) -> CoreMLRuntime:
    """A bundle of ML packages on this machine, each stack on the unit that was chosen for it here."""
    chosen = profile.chosen_of(bundle)
    if any(name.startswith("unit.") for name in chosen) and native(bundle) is not None:
        return CoreMLRuntime(bundle, ByStack(chosen, lambda units: _there(native(bundle, units))))
    return CoreMLRuntime(bundle, native(bundle) or evaluated(bundle, threads))


def _there(methods: Methods | None) -> Methods:
    assert methods is not None
    return methods


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
    global _told
    methods = Evaluated(bundle.path, bundle.manifest.segments, bundle=bundle)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    if not _told:
        _told = True
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
    made = {units: native(bundle, units) for units in UNITS}
    on = {units: methods for units, methods in made.items() if methods is not None}
    if not on:
        raise EnvironmentLacksError(
            "there is no Core ML here: only a Mac or a phone signs off a bundle for iphone; on a Mac: "
            "mue-edge verify BUNDLE --device"
        )
    found = check(bundle, on)
    return {"units": found, "chosen": choice.units(found)}
