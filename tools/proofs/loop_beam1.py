"""Verification level `loop` on the host, greedy: the bundle against the torch model."""

from __future__ import annotations

from typing import Any

from proving.bundles import bundle
from proving.pictures import held_out
from proving.rendering import Record, loop_table

PICTURES = 500


def measure() -> dict[str, Any]:
    from proving.loop import looped

    return looped(bundle(1), held_out(PICTURES))


def render(record: Record) -> str:
    words = (
        "The exported `stickers` bundle on ONNX Runtime against the torch model, on held-out pictures, "
        "fp32, greedy. Replay forces the model's exits and compares scores and tokens; the free run decides "
        "by itself.\n\n"
    )
    return words + loop_table(record)
