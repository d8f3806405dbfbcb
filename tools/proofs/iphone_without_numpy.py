"""The iPhone's path without NumPy on real pictures.

The evaluator stands in for Core ML; the phone's process has neither NumPy nor torch (`tests/targets`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mue_edge.calibrate.report.pages import table
from proving.bundles import BUNDLES
from proving.pictures import bundled
from proving.rendering import Record

PICTURES, POLICIES = 50, ("full", "balanced")
COUNTS = ("equal", "captions_as_host", "exits_as_host", "captions_as_host_by_layers")


def measure() -> dict[str, Any]:
    """By policy, how many captions, layers and decisions are those of the same packages with NumPy, score for
    score, and how many captions and layers are the host's: in float32, of a bundle cut as the packages are,
    and of one with a test after every layer."""
    import torch

    from mue_edge import targets
    from mue_edge.apps.stickers import model_folder
    from mue_edge.bundle.folder import open_bundle
    from mue_edge.export.build import export
    from tests.targets.phone_process import Task, asked, outcome
    from tests.targets.test_phone_process import PHONE

    bundles = {name: BUNDLES / f"stickers-{name}-plain" for name in ("iphone", "grouped", "host")}
    export(model_folder(), bundles["iphone"], "iphone", {"precision": "fp16"}, name="stickers")
    ends = open_bundle(bundles["iphone"]).manifest.plan["ends"]
    for name, cuts in (("grouped", {"ends": ends}), ("host", {})):
        export(model_folder(), bundles[name], "host", {"precision": "fp32", **cuts}, name="stickers")
    found = {name: {"pictures": PICTURES} | dict.fromkeys(COUNTS, 0) for name in POLICIES}
    with tempfile.TemporaryDirectory() as folder:
        files = tuple(Path(folder) / f"{i}.png" for i in range(PICTURES))
        for file, picture in zip(files, bundled(PICTURES)[0], strict=True):
            picture.save(file)
        torch.set_num_threads(1)  # of the evaluator, in both runs: sums must have one order
        phone = asked(Task(bundles["iphone"], files, POLICIES), PHONE)
        outcomes = {}
        for bundle, place in bundles.items():
            with targets.open_session(place, threads=1) as session:
                outcomes[bundle] = [outcome(session, x, p, "") for x in files for p in POLICIES]
    rows = zip(POLICIES * PICTURES, phone, *outcomes.values(), strict=True)
    for name, alone, same, grouped, host in rows:
        found[name]["equal"] += alone == same
        found[name]["captions_as_host"] += alone[0] == grouped[0]
        found[name]["exits_as_host"] += alone[2] == grouped[2]
        found[name]["captions_as_host_by_layers"] += alone[0] == host[0]
    return found


def render(record: Record) -> str:
    """The phone's path where NumPy is blocked, against the same packages with it, and the host."""
    columns = {
        "equal": "captions, layers and scores equal to those with NumPy",
        "captions_as_host": "captions equal to the host's, cut alike",
        "exits_as_host": "layers too",
        "captions_as_host_by_layers": "captions equal to a host's that tests after every layer",
    }
    head = ["policy", *columns.values()]
    rows = [[name, *(f"{f[k]} of {f['pictures']}" for k in columns)] for name, f in record["figures"].items()]
    words = "`stickers` in halves, NumPy and torch blocked, the evaluator in Core ML's place.\n\n"
    return words + table(head, rows)
