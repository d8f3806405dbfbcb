"""Random weights of OFA-base's size as Core ML packages: sizes, time and memory of the export."""

from __future__ import annotations

from typing import Any

from mue_edge.calibrate.report.pages import table
from proving.bundles import random_model
from proving.rendering import Record


def measure() -> dict[str, Any]:
    from proving.iphone import exported

    return exported(random_model("ofa-base"))


def render(record: Record) -> str:
    """Sizes, time and memory of an export of OFA-base's shape."""
    f = record["figures"]
    rows = [
        [
            f"`{name}`",
            str(p["functions"]),
            f"{p['separate_weights'] / 1e6:.1f} MB",
            f"{p['weight_file'] / 1e6:.1f} MB",
            f"{p['weight_file'] / p['distinct_weights']:.3f}",
        ]
        for name, p in f["packages"].items()
    ]
    head = ["package", "functions", "weights apart", "weight file", "of distinct weights"]
    words = (
        f"Random weights of OFA-base's size ({f['parameters'] / 1e6:.1f} million), {f['height']} pixels, "
        f"{f['precision']}: exported in {f['export_seconds']:.0f} s with a peak of "
        f"{f['peak_bytes'] / 1e9:.1f} GB.\n\n"
    )
    return words + table(head, rows)
