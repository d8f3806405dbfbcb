"""`mue-edge bench` on demo pictures: what exits save, and what segments cost against whole graphs."""

from __future__ import annotations

from typing import Any

from proving.bench import benched, demo_pictures
from proving.bundles import bundle
from proving.rendering import Record, bench_table

QUIET = True


def measure() -> dict[str, Any]:
    from mue_edge.apps.stickers import model_folder

    words = (*demo_pictures(), "--rounds", "30", "--model", str(model_folder()))
    return {policy: benched(bundle(1), *words, "--policy", policy) for policy in ("balanced", "fast")}


def render(record: Record) -> str:
    return bench_table(record["figures"])
