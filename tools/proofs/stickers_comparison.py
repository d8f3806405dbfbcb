"""What leaving early costs the network that can, against networks trained for one depth."""

from __future__ import annotations

from typing import Any

from proving import ROOT
from proving.modules import figures_of
from proving.rendering import Record

BY_NAME = "compares runs of the training study, `python -m tools.stickers.study`"
RUNS = ROOT / "out" / "study"


def measure() -> dict[str, Any]:
    return figures_of(
        "tools.stickers.compare",
        "--full",
        str(RUNS / "stickers"),
        "--one-layer",
        str(RUNS / "one-layer"),
        "--last-layer",
        str(RUNS / "last-layer"),
    )


def render(record: Record) -> str:
    from tools.stickers import tables

    return tables.comparison(record["figures"])
