"""Every exit method, and small static models, on the bundled captioner's pictures."""

from __future__ import annotations

from typing import Any

from proving.rendering import Record, methods, modalities, own, signals

QUIET = True


def measure() -> dict[str, Any]:
    from proving.compare import captions

    return captions()


def render(record: Record) -> str:
    return methods(record)


def render_own(record: Record) -> str:
    return own(record)


def render_modalities(record: Record) -> str:
    return modalities(record)


def render_signals(record: Record) -> str:
    return signals(record)
