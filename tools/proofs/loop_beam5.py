"""Verification level `loop` on the host with five beams."""

from __future__ import annotations

from typing import Any

from proving.bundles import bundle
from proving.pictures import held_out
from proving.rendering import Record, loop_table

PICTURES = 500


def measure() -> dict[str, Any]:
    from proving.loop import looped

    return looped(bundle(5), held_out(PICTURES))


def render(record: Record) -> str:
    return "The same with five beams.\n\n" + loop_table(record)
