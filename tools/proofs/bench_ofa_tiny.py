"""Random weights of OFA-tiny's size, forced to leave half way: what time does, not what words do."""

from __future__ import annotations

import json
from typing import Any

from proving.bench import benched
from proving.bundles import BUNDLES, random_model
from proving.rendering import Record, bench_table

QUIET = True


def measure() -> dict[str, Any]:
    from mue_edge.export.build import export

    model, out, policy = random_model("ofa-tiny"), BUNDLES / "ofa-tiny-host", BUNDLES / "half.json"
    export(model, out)
    policy.write_text(json.dumps({"rule": "fixed", "depth_image": 2, "depth_decoder": 2, "name": "half"}))
    half = benched(out, "--policy", str(policy), "--rounds", "21", "--model", str(model))
    return {"half": half | {"policy_origin": "fixed: 2 of 4 image and decoder layers"}}


def render(record: Record) -> str:
    return bench_table(record["figures"])
