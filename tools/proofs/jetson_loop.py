"""Typed graphs of the bundled model through ONNX Runtime: fp16 against the torch model, int8 against fp32
with thresholds set on other pictures."""

from __future__ import annotations

from typing import Any

from mue_edge.calibrate.report.pages import table
from proving.bundles import BUNDLES
from proving.pictures import bundled
from proving.rendering import Record, holds, int8_table


def measure() -> dict[str, Any]:
    from proving.jetson import looped, made
    from proving.recalibration import int8_holds, recalibrated

    out = {p: made(BUNDLES / f"stickers-jetson-{p}", p) for p in ("fp32", "fp16", "int8")}
    pictures, captions = bundled(250)
    int8 = {p: recalibrated(out[p], pictures, captions) for p in ("fp32", "int8")}
    return {"fp16": looped(out["fp16"], "fp16", 200), "int8": int8 | {"holds": int8_holds(int8["fp32"], int8["int8"])}}


def render(record: Record) -> str:
    rows = []
    for name, f in record["figures"]["fp16"].items():
        same = [f"{f[key]} of {f['pictures']}" for key in ("replay_same_tokens", "free_same_captions")]
        policy = "full depth" if name == "full" else "exits"
        rows.append([policy, f"{f['score_error_p99']:.1e}", *same, holds(f["holds"])])
    head = ["fp16, policy", "score error p99", "replay: tokens equal", "free run: captions equal"]
    return table([*head, "criteria hold"], rows) + "\n" + int8_table(record["figures"]["int8"])
