"""Layers that every earlier step skipped are filled before they first run."""

from __future__ import annotations

from pathlib import Path

import pytest

from mue_edge.bundle.folder import open_bundle
from mue_edge.loop.policy import ForcedExits, Policy
from mue_edge.loop.replay import decision_log, run
from mue_edge.targets import golden, open_runtime

pytest.importorskip("onnxruntime")


def test_a_new_runtime_fills_what_it_never_ran(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    manifest = bundle.manifest
    layout, settings = manifest.layout, manifest.search
    shown, _ = golden.read(bundle)
    pixels = golden.pixels(shown[0], manifest.preprocess)
    exits = ForcedExits({"image": 3, "text": 3}, (1, 1, 1, 1, 1, 3, *[2] * 12))
    logs = []
    for ran_before in (True, False):
        runtime = open_runtime(bundle, 1)
        runtime.set_pixels(pixels)
        if ran_before:  # its buffers exist already
            run(layout, settings, Policy("never"), runtime)
        logs.append(decision_log(run(layout, settings, exits, runtime, trace=True)))
        runtime.close()
    assert logs[0] == logs[1]
    assert logs[0].decoder[:6] == (1, 1, 1, 1, 1, 3)
