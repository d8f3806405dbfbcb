"""The Android adapter over a JVM against the host, on 50 pictures under three policies."""

from __future__ import annotations

from typing import Any

from mue_edge.calibrate.report.pages import table
from proving.bundles import bundle
from proving.pictures import bundled
from proving.rendering import Record

DATA = ("tests/targets/executorch/java/**/*.java",)


def measure() -> dict[str, Any]:
    from mue_edge.bundle.folder import open_bundle
    from mue_edge.inputs.image import preprocess
    from proving.java_adapter import compared

    opened = open_bundle(bundle(1))
    p = opened.manifest.preprocess
    pixels = [preprocess(x, p.height, p.width, mean=p.mean, std=p.std) for x in bundled(50)[0]]
    return compared(opened, pixels, ("full", "balanced", "fast"))


def render(record: Record) -> str:
    """The Android adapter over a JVM, against the host."""
    rows = [
        [
            name,
            f"{f['equal']} of {f['pictures']}",
            f"{f['decoder_layers'] / f['tokens']:.2f}",
            f"{f['score_difference']:.1e}",
        ]
        for name, f in record["figures"]["policies"].items()
    ]
    head = ["policy", "captions and decisions equal to the host's", "decoder layers a token"]
    return table([*head, "largest difference of a score"], rows)
