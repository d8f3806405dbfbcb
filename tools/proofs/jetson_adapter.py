"""The TensorRT adapter over stand-ins against ONNX Runtime, token for token on 200 pictures."""

from __future__ import annotations

from typing import Any

from mue_edge.calibrate.report.pages import table
from proving.bundles import BUNDLES
from proving.rendering import Record


def measure() -> dict[str, Any]:
    from proving.jetson import adapted, made

    return adapted(made(BUNDLES / "stickers-jetson-fp16", "fp16"), 200)


def render(record: Record) -> str:
    rows = [
        [name, *(f"{f[f'{way}_equal']} of {f['pictures']}" for way in ("look_ahead", "one_by_one"))]
        for name, f in record["figures"].items()
    ]
    head = ["adapter over stand-ins, policy", "equal to the host, look-ahead", "and one by one"]
    return table(head, rows)
