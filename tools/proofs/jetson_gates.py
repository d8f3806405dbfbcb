"""Every segment of two models in every profile and precision through all gates of the Jetson target, and
through the proxy."""

from __future__ import annotations

from typing import Any

from mue_edge.calibrate.report.pages import table
from proving.bundles import random_model
from proving.rendering import Record

DATA = ("apps/stickers/model/model.safetensors",)


def measure() -> dict[str, Any]:
    from mue_edge.apps.stickers import model_folder
    from proving.jetson import gated

    return {"stickers": gated(model_folder()), "ofa-base (random)": gated(random_model("ofa-base"))}


def render(record: Record) -> str:
    rows = [
        [model, name, str(f["segments"]), f["gates"], f.get("proxy", "not run")]
        for model, figures in record["figures"].items()
        for name, f in figures.items()
    ]
    return table(["model", "profile, precision", "segments", "gates", "proxy build"], rows)
