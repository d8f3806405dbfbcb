"""What stays in float32 when a segment is calculated in halves: exit scores and the head's logarithms.

A sum of squares over a picture's hidden states overflows a half, and a score near 1 has no digits left in
one. So whatever leads to such an output alone, after the last matrix product, keeps its 32 bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mue_edge.loop.signals import PORTS

# Outputs that are float32 in every precision; see docs/contract.md.
FLOAT32 = (*PORTS, "top_values", "logsumexp", "eos")
# Outputs of whole numbers: they may come out of what is kept in float32.
WHOLE = ("top_ids",)
PRODUCTS = frozenset({"linear", "matmul", "conv", "einsum"})


class Island:
    """Selects operations for half precision while a program is converted; see `kept`."""

    def __init__(self) -> None:
        self._kept: frozenset[str] | None = None

    def __call__(self, op: Any) -> bool:
        """True for what becomes half; the graph is looked at once, before anything is changed."""
        if self._kept is None:
            self._kept = frozenset(kept(op.enclosing_block))
        return op.name not in self._kept


def kept(block: Any) -> Iterator[str]:
    """Names of the operations of a block (of coremltools' MIL) that lead to float32 outputs only."""
    outputs = {var.name: var for var in block.outputs}
    scores = _ancestors(var for name, var in outputs.items() if name in FLOAT32)
    others = _ancestors(var for name, var in outputs.items() if name not in (*FLOAT32, *WHOLE))
    products = [op for op in scores if op.op_type in PRODUCTS]
    before = _ancestors(var for op in products for var in _inputs(op)) | set(products)
    for op in scores - others - before:
        yield op.name


def _ancestors(variables: Iterable[Any]) -> set[Any]:
    """Every operation that the variables are made by, directly or not."""
    operations: set[Any] = set()
    waiting = [var.op for var in variables if var.op is not None]
    while waiting:
        op = waiting.pop()
        if op not in operations:
            operations.add(op)
            waiting += [var.op for var in _inputs(op) if var.op is not None]
    return operations


def _inputs(op: Any) -> list[Any]:
    """Variables that an operation reads, those of lists too."""
    values = [value if isinstance(value, (list, tuple)) else [value] for value in op.inputs.values()]
    return [var for listed in values for var in listed if hasattr(var, "op")]
