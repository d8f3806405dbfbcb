"""`mue-edge bench` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from proving.bundles import BUNDLES, cli


def benched(bundle: Path, *words: str) -> dict[str, Any]:
    """The record of one `mue-edge bench`."""
    out = BUNDLES / "bench.json"
    cli("bench", str(bundle), *words, "--out", str(out))
    record: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return record


def demo_pictures() -> list[str]:
    """The held-out pictures of the demo, as paths."""
    from mue_edge.apps import stickers

    return [str(path) for path, _ in stickers.demo_pictures()]
