"""Exact match of the bundled policies on test_render, through the exported bundle."""

from __future__ import annotations

from typing import Any

from proving.bundles import bundle
from proving.rendering import Record


def measure() -> dict[str, Any]:
    from mue_edge import targets
    from mue_edge.apps.stickers.dataset import read
    from mue_edge.apps.stickers.evaluation import still
    from mue_edge.loop import replay

    data = read()
    rows = data.rows("test_render")
    names = [data.records[i].caption for i in rows]
    figures = {}
    with targets.open(bundle(1), threads=1) as captioner:
        p = captioner.bundle.manifest.preprocess
        pixels = [still(data, rows[i : i + 1], p).numpy() for i in range(len(rows))]
        for name, policy in captioner.bundle.manifest.policies().items():
            right = 0
            for picture, wanted in zip(pixels, names, strict=True):
                captioner.runtime.set_pixels(picture)
                run = replay.run(captioner.layout, captioner.settings(), policy, captioner.runtime)
                right += captioner.tokenizer.caption(run.hypotheses[0].tokens).strip() == wanted
            figures[name] = {"pictures": len(names), "exact_match": right / len(names)}
    return figures


def render(record: Record) -> str:
    each = ", ".join(f"{name} {f['exact_match']:.3f}" for name, f in record["figures"].items())
    return f"Exact match on test_render through the exported bundle, by policy: {each}.\n"
