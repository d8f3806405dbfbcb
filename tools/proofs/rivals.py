"""`mue-edge bench --rival`: the bundled model and OFA-base's shape beside what users would run instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from proving.bench import benched, demo_pictures
from proving.bundles import BUNDLES, bundle, cli, kept, random_model
from proving.rendering import Record, rivals_table

QUIET = True
RIVALS = ("--rival", "onnxruntime", "--rival", "openvino", "--rival", "torch")
PRECISIONS = ("fp32", "int8")


def measure() -> dict[str, Any]:
    from mue_edge.apps.stickers import model_folder

    half, base = BUNDLES / "half-base.json", random_model("ofa-base")
    half.write_text(json.dumps({"rule": "fixed", "depth_image": 3, "depth_decoder": 3, "name": "half"}))
    figures: dict[str, Any] = {}
    for precision in PRECISIONS:
        options = (*RIVALS, "--rounds", "21", "--model")
        small = benched(bundle(1, precision), *demo_pictures(), *options, str(model_folder()), "--policy", "balanced")
        large = benched(_base(base, precision), *options, str(base), "--policy", str(half))
        large["policy_origin"] = "3 of 6 image and decoder layers"
        figures |= {f"stickers {precision}": small, f"ofa-base {precision}": large}
    return figures


def _base(model: Path, precision: str) -> Path:
    make = lambda out: cli("export", str(model), "--precision", precision, "--out", str(out))
    return kept(f"ofa-base-host-{precision}", make)


def render(record: Record) -> str:
    return rivals_table(record["figures"])
