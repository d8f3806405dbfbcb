"""Decoders with and without exits on the bundled encoder. The trainings go on where they were stopped."""

from __future__ import annotations

from typing import Any

from proving.modules import figures_of
from proving.rendering import Record


def measure() -> dict[str, Any]:
    return figures_of("tools.stickers.decoders")


def render(record: Record) -> str:
    from tools.stickers import tables

    return tables.decoders(record["figures"])
