"""Core ML packages of the bundled model through the evaluator: design 5's `loop`, sizes."""

from __future__ import annotations

from typing import Any

import click

from mue_edge.calibrate.report.pages import table
from proving.pictures import bundled
from proving.rendering import Record, holds, int8_table


def measure() -> dict[str, Any]:
    from proving.iphone import by_precision

    pictures, captions = bundled(125)
    with click.progressbar(length=400, label="iphone") as bar:
        return by_precision(pictures, captions, lambda done: bar.update(1))


def render(record: Record) -> str:
    """Core ML packages through the evaluator: criteria of the loop, sizes."""
    figures = record["figures"]
    rows, loops = [], []
    for precision in ("fp32", "fp16", "int8"):
        f = figures[precision]
        size, whole = (sum(x["bytes"] for x in y["packages"].values()) for y in (f, figures["fp32"]))
        rows.append([f"`{precision}`", f"{size / 1e6:.2f} MB", f"{size / whole:.2f}", f"{f['graph_max_error']:.1e}"])
        for name, loop in f.get("loop", {}).items():
            same = [f"{loop[k]} of {loop['pictures']}" for k in ("replay_same_tokens", "free_same_captions")]
            errors = f"{loop['score_error_p99']:.1e} / {loop['score_error_max']:.1e}"
            policy = "full depth" if name == "full" else "exits"
            loops.append([f"`{precision}`", policy, errors, *same, holds(loop["holds"])])
    int8 = {p: figures[p]["recalibrated"] for p in ("fp32", "int8")} | {"holds": figures["int8_holds"]}
    words = "`stickers`, from disk through the evaluator as declared, against the torch model.\n\n"
    words += table(["precision", "packages", "of fp32's", "largest error of a segment"], rows) + "\n"
    head = ["precision", "policy", "score error p99 / max", "replay: tokens equal", "free run: captions equal"]
    words += table([*head, "criteria hold"], loops) + "\n" + int8_table(int8)
    return words
