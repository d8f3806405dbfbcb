"""Rung `loop`: forced replay and free run, and int8 with thresholds of its own."""

from __future__ import annotations

from typing import Any

from blocks.records import NOT_MEASURED, holds, read, source
from mue_edge.calibrate.report.pages import table


def loop() -> str:
    """The loop rung: forced replay and free run against the torch model."""
    words = (
        "The exported `stickers` bundle on ONNX Runtime against the torch model, on held-out pictures, "
        "fp32. Replay forces the model's exits and compares scores and tokens; the free run decides "
        "by itself.\n\n"
    )
    return loop_table("beam", words, {"loop-beam1": "1", "loop-beam5": "5"})


def loop_table(first: str, words: str, names: dict[str, str]) -> str:
    """A row a policy of each record that there is; `names` say what the first column shows."""
    records = [r for r in map(read, names) if r]
    rows = []
    for record in records:
        for name, f in record["figures"].items():
            n = f["pictures"]
            rows.append(
                [
                    names[record["name"]], "full depth" if name == "full" else "exits",
                    f"{f['mean_image_layers']:.2f} / {f['mean_layers']:.2f}",
                    f"{f['score_error_p99']:.1e} / {f['score_error_max']:.1e}",
                    f"{f['replay_same_tokens']} of {n}", f"{f['free_same_captions']} of {n}",
                    holds(f["holds"]),
                ]
            )  # fmt: skip
    if not rows:
        return NOT_MEASURED
    head = [
        first, "policy", "image / decoder layers run", "score error p99 / max", "replay: tokens equal",
        "free run: captions equal", "criteria hold",
    ]  # fmt: skip
    return words + table(head, rows) + source(*records)


def int8_table(f: dict[str, Any]) -> str:
    """Criterion (c): both precisions with thresholds of their own scores."""
    rows = [
        [
            name, f"{f[name]['image_layers']:.2f} / {f[name]['decoder_layers']:.2f}",
            f"{f[name]['cider_d']:.3f}", f"{f[name]['exact_match']:.3f}",
        ]
        for name in ("fp32", "int8")
    ]  # fmt: skip
    head = ["precision", "image / decoder layers run", "CIDEr-D", "exact match"]
    verdict = "holds" if f["holds"] else "does **not** hold"
    words = f"\nCIDEr-D within 1 % and mean layers within 5 % of fp32's: {verdict}, on "
    return table(head, rows) + words + f"{f['int8']['pictures']} pictures.\n"
