"""`mue-edge calibrate` as a user calls it."""

from __future__ import annotations

import json
import shutil
from typing import Any

from proving.bundles import BUNDLES, cli


def calibrated(model: str, budgets: tuple[str, ...], folder: str, *words: str) -> dict[str, Any]:
    """`mue-edge calibrate` as a user calls it, one budget after another in one folder."""
    out = BUNDLES / folder
    shutil.rmtree(out, ignore_errors=True)
    figures = {}
    for budget in budgets:
        cli("calibrate", model, "--budget", budget, *words, "--out", str(out))
        found = json.loads((out / "calibration.json").read_text(encoding="utf-8"))
        front = {point["policy"]["name"]: point for point in found["front"]}
        chosen, live = front[found["chosen"]], found["live"][found["chosen"]]
        certificate = found["certificate"]
        figures[budget] = {
            "budget_ms": found["budget_ms"],
            "chosen": found["chosen"],
            "policy": chosen["policy"],
            "certified": bool(certificate["chosen"]),
            "statement": certificate["statement"],
            "drop_bound_of_primary": found["drop_bound_of_primary"],
            "kept_tune": chosen["kept"],
            "predicted_ms": chosen["mean_ms"],
            "predicted_p95_ms": chosen["p95_ms"],
            "live_ms": live["mean_ms"],
            "live_p95_ms": live["p95_ms"],
            "live_late": live["late"],
            "live_captions": live["captions"],
            "live_of_full_depth": live["of_full_depth"],
            "candidates": found["candidates"],
            "smallest_drop": found["smallest_drop"],
            "layers": chosen["layers"],
            "clusters": certificate["clusters"],
            "load": found["profile"]["load"],
        }
    return figures
