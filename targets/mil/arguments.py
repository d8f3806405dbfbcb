"""The arguments of one operation, as its rule reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from mue_edge.errors import InputFileError

# None: a constant of a kind that no operation here takes.
Evaluated = Tensor | str | None
T = TypeVar("T")


@dataclass(frozen=True)
class Arguments:
    """`values`: parameter → values; most parameters take one. A missing parameter has the default that the
    operation's specification names."""

    values: Mapping[str, tuple[Evaluated, ...]]

    def has(self, name: str) -> bool:
        return name in self.values

    def tensor(self, name: str = "x") -> Tensor:
        return self._one(name, Tensor)

    def optional(self, name: str) -> Tensor | None:
        return self.tensor(name) if name in self.values else None

    def tensors(self, name: str = "values") -> list[Tensor]:
        return [value for value in self.values[name] if isinstance(value, Tensor)]

    def text(self, name: str, default: str) -> str:
        return self._one(name, str) if name in self.values else default

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self.number(name, default))

    def number(self, name: str, default: float) -> float:
        return float(self.tensor(name)) if name in self.values else default

    def integer(self, name: str, default: int) -> int:
        return int(self.tensor(name)) if name in self.values else default

    def integers(self, name: str, default: list[int]) -> list[int]:
        """A list; a single number is a list of one."""
        return self.tensor(name).reshape(-1).tolist() if name in self.values else default

    def _one(self, name: str, kind: type[T]) -> T:
        values = self.values.get(name, ())
        if len(values) != 1 or not isinstance(values[0], kind):
            raise InputFileError(f"parameter {name!r} is not one {kind.__name__.lower()}")
        return values[0]


# Computes an operation's outputs (most have one).
Rule = Callable[[Arguments], Tensor | tuple[Tensor, ...]]
