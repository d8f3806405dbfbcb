"""The arguments of one operation, as its rule reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from mue_edge.errors import InputFileError

Evaluated = Tensor | str | tuple[str, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Arguments:
    """`given`: parameter → values; most parameters take one. What is not given has the default that the
    operation's specification names."""

    given: Mapping[str, tuple[Evaluated, ...]]

    def has(self, name: str) -> bool:
        return name in self.given

    def tensor(self, name: str = "x") -> Tensor:
        return self._one(name, Tensor)

    def tensors(self, name: str = "values") -> list[Tensor]:
        return [value for value in self.given[name] if isinstance(value, Tensor)]

    def text(self, name: str, default: str) -> str:
        return self._one(name, str) if name in self.given else default

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self.tensor(name)) if name in self.given else default

    def number(self, name: str, default: float) -> float:
        return float(self.tensor(name)) if name in self.given else default

    def whole(self, name: str, default: int) -> int:
        return int(self.tensor(name)) if name in self.given else default

    def wholes(self, name: str, default: list[int]) -> list[int]:
        """A list; a single number is a list of one."""
        if name not in self.given:
            return default
        found = self.tensor(name).tolist()
        return found if isinstance(found, list) else [int(found)]

    def _one(self, name: str, kind: type[T]) -> T:
        values = self.given.get(name, ())
        if len(values) != 1 or not isinstance(values[0], kind):
            raise InputFileError(f"parameter {name!r} is not one {kind.__name__.lower()}")
        return values[0]


# Computes an operation's outputs (most have one).
Rule = Callable[[Arguments], Tensor | tuple[Tensor, ...]]
