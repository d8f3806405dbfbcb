"""Design 5's criterion (c) for ExecuTorch: int8 against fp32, thresholds set on a fifth of the pictures."""

from __future__ import annotations

from typing import Any

from proving.bundles import lowered
from proving.pictures import bundled
from proving.rendering import Record, int8_table


def measure() -> dict[str, Any]:
    from proving.recalibration import int8_holds, recalibrated

    pictures, captions = bundled(250)
    figures: dict[str, Any] = {}
    for precision in ("fp32", "int8"):
        place = lowered("android", precision)
        size = sum(path.stat().st_size for path in (place / "segments").iterdir())
        figures[precision] = recalibrated(place, pictures, captions) | {"program_bytes": size}
    return figures | {"holds": int8_holds(figures["fp32"], figures["int8"])}


def render(record: Record) -> str:
    """int8 against fp32, each with thresholds of its own scores."""
    f = record["figures"]
    size = ", ".join(f"{name} {f[name]['program_bytes'] / 1e6:.1f} MB" for name in ("fp32", "int8"))
    return int8_table(f) + f"Size of the program: {size}.\n"
