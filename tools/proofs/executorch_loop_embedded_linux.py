"""Verification level `loop` for `embedded-linux`, on ExecuTorch's own runtime."""

from __future__ import annotations

from typing import Any

from proving.bundles import lowered
from proving.pictures import bundled
from proving.rendering import Record, loop_table


def measure() -> dict[str, Any]:
    from proving.loop import looped

    return looped(lowered("embedded-linux"), bundled(200)[0])


def render(record: Record) -> str:
    words = "The `stickers` bundle for `embedded-linux` on ExecuTorch's own runtime, against the torch model"
    return f"{words}, fp32, greedy.\n\n{loop_table(record)}"
