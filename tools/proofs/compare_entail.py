"""Every exit method on the bundled model for statements, and which modality may leave early."""

from __future__ import annotations

from typing import Any

from proving.rendering import Record, methods, modalities, own, signals

QUIET = True


def measure() -> dict[str, Any]:
    from proving.entailment import compared

    return compared()


def render(record: Record) -> str:
    return methods(record)


def render_own(record: Record) -> str:
    return own(record)


def render_modalities(record: Record) -> str:
    return modalities(record)


def render_signals(record: Record) -> str:
    return signals(record)
