"""The bundled model for statements: exits of the picture's, the text's and the decoder's stack."""

from __future__ import annotations

from typing import Any

from proving import calibration
from proving.rendering import Record, calibrated

QUIET = True


def measure() -> dict[str, Any]:
    words = ("--max-drop", "5%", "--clock", "cpu")
    return calibration.calibrated("stickers-entail", ("70%", "50%"), "calibrated-entail", *words)


def render(record: Record) -> str:
    return calibrated(record, "accuracy", "5 %")
