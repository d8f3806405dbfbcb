"""Quality at given savings of time: one plan, exits alone."""

from __future__ import annotations

from typing import Any

from proving.bundles import BUNDLES, bundle
from proving.rendering import Record, saved

QUIET = True


def measure() -> dict[str, Any]:
    from proving.savings import exits_alone

    return exits_alone(bundle(1), BUNDLES / "savings-exits")


def render(record: Record) -> str:
    return saved(record)
