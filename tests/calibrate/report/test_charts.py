"""Charts: where points lie, which cell is darkest, odd ranges."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from mue_edge.calibrate.report.charts import heat_map, lines


def _points(svg: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'points="([^"]*)"', svg)
    return [[(float(x), float(y)) for x, y in (p.split(",") for p in path.split())] for path in found]


def test_curves_span_the_frame() -> None:
    svg = lines({"layer 1": [(0, 4.0), (10, 1.0)], "val layer 1": [(10, 2.5)]}, "step", "loss <nats>")
    ElementTree.fromstring(svg)
    (left, right), (only,) = _points(svg)
    assert left == (64.0, 24.0)
    assert right == (704.0, 344.0)
    assert only == (704.0, 184.0)
    assert svg.count("stroke-dasharray") == 1
    assert "loss &lt;nats&gt;" in svg


def test_a_flat_curve_and_none() -> None:
    (curve,) = _points(lines({"a": [(1, 2.0), (2, 2.0)]}, "x", "y"))
    assert [y for _, y in curve] == [184.0, 184.0]
    ElementTree.fromstring(lines({}, "x", "y"))


def test_the_largest_value_is_darkest_and_deep_encoders_stand_on_top() -> None:
    svg = heat_map({(1, 1): 0.1, (1, 6): 0.5, (6, 6): 0.9}, "CIDEr-D")
    ElementTree.fromstring(svg)
    cells = re.findall(r'<rect x="(\d+)" y="(\d+)"[^>]*fill="(#[0-9a-f]{6})"', svg)
    assert [fill for _, _, fill in cells] == ["#eaf1fe", "#82a0de", "#1b4fbf"]
    assert int(cells[2][1]) < int(cells[1][1]) == int(cells[0][1])
    assert int(cells[0][0]) < int(cells[1][0]) == int(cells[2][0])
    assert all(f">{value}<" in svg for value in ("0.1", "0.5", "0.9"))
