"""`mue-edge bench` as a user calls it: what exits save, and what segments cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from proofs.bundles import BUNDLES, bundle, cli, lowered
from proofs.covered import CORE, EXECUTORCH, MODEL, SEGMENTS
from proofs.record import write


def measured(place: Path, *options: str) -> dict[str, Any]:
    """The record of one `mue-edge bench`."""
    out = BUNDLES / "bench.json"
    cli("bench", str(place), *options, "--out", str(out))
    record: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return record


def host() -> None:
    """`mue-edge bench` on held-out demo pictures, against the monolithic graphs."""
    from mue_edge.apps.stickers import demo_pictures, model_folder

    pictures = [str(path) for path, _ in demo_pictures()]
    figures = {}
    for policy in ("balanced", "fast"):
        options = ["--policy", policy, "--rounds", "30", "--model", str(model_folder())]
        figures[policy] = measured(bundle(1), *pictures, *options)
    write("bench", "mue-edge bench BUNDLE DEMO-PICTURES --model stickers --policy balanced|fast --rounds 30",
          (*CORE, *SEGMENTS, *MODEL), figures)  # fmt: skip


def executorch() -> None:
    """Android's bundle on ExecuTorch here, against one graph a stack and against the host's bundle."""
    from mue_edge.apps.stickers import demo_pictures, model_folder

    pictures = [str(path) for path, _ in demo_pictures()]
    options = ["--policy", "balanced", "--rounds", "21", "--model", str(model_folder())]
    place = lowered("android")
    figures = {"balanced": measured(place, *pictures, *options, "--against", str(bundle(1)))}
    write("executorch-bench",
          "mue-edge bench BUNDLE DEMO-PICTURES --model stickers --policy balanced --against HOST-BUNDLE",
          (*CORE, *EXECUTORCH, *SEGMENTS, *MODEL), figures)  # fmt: skip


def ofa_tiny() -> None:
    """Random weights of OFA-tiny's size, forced to leave half way: what time does, not what words do."""
    from mue_edge.export.build import export

    model, out, policy = BUNDLES / "ofa-tiny", BUNDLES / "ofa-tiny-host", BUNDLES / "half.json"
    cli("import", "--random", "ofa-tiny", "--mue", "--out", str(model))
    export(model, out)
    policy.write_text(json.dumps({"rule": "fixed", "depth_image": 2, "depth_decoder": 2, "name": "half"}))
    figures = {"half": measured(out, "--policy", str(policy), "--rounds", "21", "--model", str(model))}
    figures["half"]["policy_origin"] = "fixed: 2 of 4 image and decoder layers"
    write("bench-ofa-tiny", "mue-edge bench BUNDLE --model MODEL --policy half.json --rounds 21",
          (*CORE, *SEGMENTS), figures)  # fmt: skip
