"""The iPhone's path without NumPy on real pictures, for the job `iphone-without-numpy`.

The evaluator stands in for Core ML; the phone's process has neither NumPy nor torch (`tests/targets`).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from mue_edge import targets
from mue_edge.apps.stickers import model_folder
from mue_edge.bundle import open_bundle
from mue_edge.export.build import export
from proofs import covered
from proofs.bundles import BUNDLES
from proofs.pictures import bundled
from proofs.record import ROOT, write

PICTURES, POLICIES = 50, ("full", "balanced")
COUNTS = ("equal", "captions_as_host", "exits_as_host", "captions_as_host_by_layers")
OWN = (
    "tools/proofs/without_numpy.py", "tests/targets/phone_process.py", "tests/targets/objective_c.py",
    "mue_edge/arrays.py", "mue_edge/plain.py", "mue_edge/image.py",
    *(f"targets/{name}.py" for name in ("coreml_objc", "coreml_native", "coreml_pixels")),
)  # fmt: skip


def compared() -> dict[str, Any]:
    """By policy, how many captions, layers and decisions are those of the same packages with NumPy, score for
    score, and how many captions and layers are the host's: in float32, of a bundle cut as the packages are,
    and of one with a test after every layer."""
    sys.path.insert(0, str(ROOT))
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


def stickers() -> None:
    """The phone's path where NumPy is blocked, on 50 pictures under two policies."""
    write("iphone-without-numpy", "python tools/evidence.py iphone-without-numpy",
          (*covered.CORE, *covered.SEGMENTS, *covered.MODEL, *covered.COREML, *OWN), compared())  # fmt: skip
