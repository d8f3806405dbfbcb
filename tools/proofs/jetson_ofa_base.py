"""A random model of OFA-base's shape exported for Jetson: time, memory, bytes."""

from __future__ import annotations

from typing import Any

from proving.bundles import BUNDLES, random_model
from proving.rendering import Record


def measure() -> dict[str, Any]:
    from proving.jetson import exported

    return exported(str(random_model("ofa-base")), BUNDLES / "ofa-base-jetson")


def render(record: Record) -> str:
    f = record["figures"]
    return (
        f"A random model of OFA-base's shape: exported in {f['seconds'] / 60:.1f} minutes "
        f"({f['cpu_seconds'] / 60:.1f} of processor time, load average {f['load']:.0f}), "
        f"{f['peak_bytes'] / 1e9:.1f} GB of memory, {sum(f['bytes'].values()) / 1e6:.0f} MB.\n"
    )
