"""Exit scores in half precision: what overflows or loses its digits, and what we keep in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("coremltools", reason="pip install 'mue-edge[coreml]'")

from mue_edge.errors import VerificationError
from mue_edge.export.coreml import format as coreml
from mue_edge.models.cut import Piece
from mue_edge.models.outputs import flat_similarity
from mue_edge.targets.mil.evaluator import Mode
from mue_edge.targets.mil.program import read
from tests.targets.mil.loading import load

ROWS, WIDTH = 40, 256


class Scored(nn.Module):
    """A layer that changes little, and a score of the change."""

    def __init__(self, naive: bool) -> None:
        super().__init__()
        self.linear, self.naive = nn.Linear(WIDTH, WIDTH), naive
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(WIDTH) + 1e-3 * torch.randn(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.linear(x)
        if self.naive:
            score = F.cosine_similarity(y.reshape(1, -1), x.reshape(1, -1), dim=1, eps=1e-7)
            return y, score, 1 - score
        return y, *flat_similarity(y, x)


torch.manual_seed(0)
X = 20 * torch.randn(ROWS, WIDTH)


def piece(naive: bool = False) -> Piece:
    return Piece("image.0", Scored(naive), {"x": X}, ("y", "score", "gap"))


def scores(package: Path, mode: Mode) -> tuple[float, float]:
    found = load(package, mode=mode)({"x": X})
    return float(found["score"]), float(found["gap"])


def truth(y: Tensor) -> float:
    a, b = y.double().reshape(-1), X.half().double().reshape(-1)
    return float(1 - a @ b / (a.norm() * b.norm()))


def half(op: Any) -> bool:
    return True


def test_cosine_similarity_is_forbidden() -> None:
    with pytest.raises(VerificationError, match=r"image\.0 uses cosine_similarity.*overflows"):
        coreml.converted(piece(naive=True), "fp16", "ios18")


@pytest.mark.parametrize("mode", ["declared", "native"])
@pytest.mark.parametrize("naive", [True, False])
def test_scores_in_half_precision(naive: bool, mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an island either form is useless: no score, or one that says nothing changed."""
    monkeypatch.setattr(coreml, "forbid", lambda program, name: None)
    coreml.save(coreml.converted(piece(naive), "fp16", "ios18", half), tmp_path / "all.mlpackage")
    score, gap = scores(tmp_path / "all.mlpackage", mode)
    wanted = truth(load(tmp_path / "all.mlpackage", mode=mode)({"x": X})["y"])
    assert not abs(gap - wanted) < 0.5 * wanted
    if naive:
        assert not score > 0.5, "never exits"


@pytest.mark.parametrize("mode", ["declared", "native"])
def test_the_island_keeps_scores(mode: Mode, tmp_path: Path) -> None:
    package = tmp_path / "kept.mlpackage"
    coreml.save(coreml.converted(piece(), "fp16", "ios18"), package)
    score, gap = scores(package, mode)
    wanted = truth(load(package, mode=mode)({"x": X})["y"])
    assert gap == pytest.approx(wanted, rel=1e-3) and score == pytest.approx(1 - wanted, abs=1e-6)
    kinds = {op.type: op.outputs[0].kind.dtype for op in read(package).functions["main"].operations}
    assert kinds["linear"] == "float16" and kinds["reduce_sum"] == kinds["rsqrt"] == "float32"


def test_everything_is_float32_in_fp32(tmp_path: Path) -> None:
    package = tmp_path / "plain.mlpackage"
    coreml.save(coreml.converted(piece(), "fp32", "ios18"), package)
    dtypes: Callable[[Any], set[str]] = lambda f: {o.kind.dtype for op in f.operations for o in op.outputs}
    assert "float16" not in dtypes(read(package).functions["main"])
