"""AUC of every exit signal by decoder boundary. No page shows it; `mue-edge compare` measures more."""

from __future__ import annotations

from typing import Any

DATA = ("apps/stickers/model/model.safetensors",)


def measure() -> dict[str, Any]:
    from mue_edge.apps.stickers import model_folder
    from proving.signals import figures

    return figures(model_folder())
