"""Android's bundle on ExecuTorch here, against one graph a stack and against the host's bundle."""

from __future__ import annotations

from typing import Any

from proving.bench import benched, demo_pictures
from proving.bundles import bundle, lowered
from proving.rendering import Record, bench_table

QUIET = True


def measure() -> dict[str, Any]:
    from mue_edge.apps.stickers import model_folder

    words = (*demo_pictures(), "--policy", "balanced", "--rounds", "21", "--model", str(model_folder()))
    return {"balanced": benched(lowered("android"), *words, "--against", str(bundle(1)))}


def render(record: Record) -> str:
    return bench_table(record["figures"])
