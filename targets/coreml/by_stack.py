"""Each stack of a bundle on the unit that `verify --device` chose for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mue_edge.arrays import Array
from mue_edge.bundle.manifest import Port
from mue_edge.targets.executorch.methods import Methods

# Core ML chooses.
ALL = "all"


class ByStack:
    """As `methods.Methods`. chosen: "unit.STACK" → unit; `load` is called once for each unit in use."""

    def __init__(self, chosen: Mapping[str, str], load: Callable[[str], Methods]) -> None:
        self._chosen = {k.removeprefix("unit."): unit for k, unit in chosen.items() if k.startswith("unit.")}
        self._on = {unit: load(unit) for unit in {ALL, *self._chosen.values()}}

    def run(self, segment: str, inputs: Sequence[Any]) -> Sequence[Any]:
        return self._on[self._chosen.get(segment.partition(".")[0], ALL)].run(segment, inputs)

    def tensor(self, array: Array) -> Any:
        return self._on[ALL].tensor(array)

    def array(self, tensor: Any, port: Port) -> Array:
        return self._on[ALL].array(tensor, port)

    def close(self) -> None:
        for methods in self._on.values():
            methods.close()
