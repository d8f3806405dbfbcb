"""A function of an `.mlpackage`, ready to run."""

from __future__ import annotations

from pathlib import Path

from mue_edge.targets.mil.evaluator import Evaluator, Mode
from mue_edge.targets.mil.program import read


def load(package: Path, function: str = "main", mode: Mode = "declared") -> Evaluator:
    return Evaluator(read(package), function, mode)
