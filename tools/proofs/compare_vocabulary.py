"""Which exit rules win with the bundled captioner's head, and which with one over a real model's vocabulary."""

from __future__ import annotations

from typing import Any

from proving.rendering import Record, vocabularies

QUIET = True
WORDS = 59_457  # OFA's


def measure() -> dict[str, Any]:
    """The second comparison takes its answers from what the first one kept."""
    from proving.compare import captions

    return {"own": captions(), "large": captions(WORDS)}


def render(record: Record) -> str:
    return vocabularies(record)
