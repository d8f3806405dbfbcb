"""The bundled captioner for several budgets."""

from __future__ import annotations

from typing import Any

from proving import calibration
from proving.rendering import Record, calibrated

QUIET = True


def measure() -> dict[str, Any]:
    return calibration.calibrated("stickers", ("50ms", "70%", "50%", "35%"), "calibrated")


def render(record: Record) -> str:
    return calibrated(record, "CIDEr-D", "3 %")
