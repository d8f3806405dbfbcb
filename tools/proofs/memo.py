"""The memo tree against live runs: 200 pictures under 20 random policies, greedy and with beams."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from proving.bundles import bundle
from proving.pictures import held_out


def measure() -> dict[str, Any]:
    from mue_edge.bundle.folder import open_bundle
    from mue_edge.inputs.image import preprocess
    from tools.verification.memo import prove

    figures = {}
    for beam in (1, 5):
        opened = open_bundle(bundle(beam))
        p = opened.manifest.preprocess
        pixels = [preprocess(x, p.height, p.width, mean=p.mean, std=p.std) for x in held_out(200)]
        with (
            tempfile.TemporaryDirectory() as folder,
            click.progressbar(length=len(pixels), label=f"memo, beam {beam}") as bar,
        ):
            proof = prove(opened, Path(folder), pixels, 20, lambda bar=bar: bar.update(1))
        figures[f"beam {beam}"] = {k: round(v, 3) for k, v in asdict(proof).items()}
    return figures
