"""An export's progress is a share of its work, and rises."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from mue_edge.export.build import export
from mue_edge.export.progress import TOTAL, phases, steps


def test_phases_share_one_count() -> None:
    told: list[tuple[str, int, int]] = []
    parts = phases(lambda *state: told.append(state), {"one": 3.0, "two": 1.0})
    step = steps(parts["one"], "a", [1, 0.5])
    step()
    step()
    parts["two"]("b", 1, 2)
    assert told == [("a", 0, TOTAL), ("a", 500, TOTAL), ("a", 750, TOTAL), ("b", 875, TOTAL)]


def test_an_export_tells_of_every_part(tiny_model_folder: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    exported = export(tiny_model_folder, tmp_path / "out", progress=lambda *state: told.append(state))
    shares = [done / total for _, done, total in told]
    assert shares == sorted(shares) and shares[-1] == 1
    whats = [what for what, _, _ in told]
    assert {"cutting", "decoder.1", "golden answers", "checking segments", "verifying"} <= set(whats)
    assert whats.count("verifying") == 1 + 8 == whats.count("golden answers")
    assert set(exported.costs) == {"stem", "image", "cross_kv", "embed+decoder+head"}
