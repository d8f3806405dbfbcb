"""Quality at given savings of time: exits, image size, precision and cuts."""

from __future__ import annotations

from typing import Any

from proving.bundles import BUNDLES
from proving.rendering import Record, saved

QUIET = True


def measure() -> dict[str, Any]:
    from mue_edge.apps.stickers import model_folder
    from proving.savings import exits_and_plans

    return exits_and_plans(model_folder(), BUNDLES / "savings-plans")


def render(record: Record) -> str:
    return saved(record)
