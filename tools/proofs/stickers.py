"""The bundled model itself: its quality by split, by policy and by decoder."""

from __future__ import annotations

import subprocess
import sys

from proofs.bundles import bundle
from proofs.covered import CORE, MODEL, SEGMENTS
from proofs.record import ROOT, write


def policies() -> None:
    """Exact match of the bundled policies on test_render, through the exported bundle."""
    from mue_edge import replay, targets
    from mue_edge.apps.stickers.dataset import read
    from mue_edge.apps.stickers.evaluation import still

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
    write("policies", "python tools/evidence.py policies", (*CORE, *SEGMENTS, *MODEL), figures)


def stickers() -> None:
    """The bundled model on all splits; the module writes its own evidence and the model card."""
    subprocess.run([sys.executable, "-m", "tools.stickers.evidence"], cwd=ROOT, check=True)


def decoders() -> None:
    """Decoders with and without exits on the bundled encoder; the module writes its own evidence, the model
    card and the learning curves, and goes on where it was stopped."""
    subprocess.run([sys.executable, "-m", "tools.stickers.decoders"], cwd=ROOT, check=True)
