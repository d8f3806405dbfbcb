"""Traced graphs of the contract's cases, and their ranges: made once for all tests of typed graphs."""

from __future__ import annotations

from functools import lru_cache

from mue_edge.export.onnx.format import Exporter
from mue_edge.export.onnx.graphs import Graph
from mue_edge.export.ranges import Ranges, scan
from tests.contract.cuts import make_case, pictures

_EXPORTER = Exporter()


@lru_cache
def graphs_of(case: str) -> tuple[Graph, ...]:
    """Every piece of a case in float32."""
    return tuple(Graph(piece, _EXPORTER.graph(piece)) for piece in make_case(case).cut.pieces)


@lru_cache
def ranges_of(case: str) -> Ranges:
    """Of the case's two pictures; the text branch, which no target's adapter feeds yet, has none."""
    made = make_case(case)
    if made.request.prompt is None:
        return {}
    return scan(made.cut, graphs_of(case), made.layout, made.settings, pictures())
