"""`mue-edge compare` as a user calls it: every exit method, and small static models, on one backbone.

The backbone is the bundled model whose decoder was trained on as long as the static models' were, so that
none has had more of it. Training goes on where it was stopped; so do the traces.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click

from mue_edge.apps.stickers import model_folder, small
from mue_edge.apps.stickers.dataset import read
from mue_edge.apps.stickers.decoders import frozen
from mue_edge.apps.stickers.sources import default_cache
from mue_edge.calibrate.caption_training import learner
from mue_edge.calibrate.trainers import TRAINERS
from mue_edge.files import atomic_folder
from mue_edge.models import heads
from proofs.bundles import BUNDLES, cli
from proofs.covered import CORE, MODEL, SEGMENTS
from proofs.record import write
from proofs.signals import views

FITTED = 1000  # pictures that heads are fitted on
STATIC = (1, 2)  # decoder layers
COVERED = (
    "calibrate/comparison.py",
    "calibrate/held.py",
    "calibrate/candidates.py",
    "apps/stickers/small.py",
)


def with_heads(model: Path, out: Path) -> Path:
    """A copy of a model folder with heads of every kind, fitted on augmented training pictures."""
    if (out / heads.FILE).is_file():
        return out
    found: heads.Heads = {}
    for kind, train in TRAINERS.items():
        pupil, batches = learner(model, None), list(views(read(), FITTED))
        with click.progressbar(length=len(batches), label=f"heads: {kind}") as bar:
            found[kind] = train(
                pupil.model, pupil.prompt, batches, progress=lambda bar=bar: bar.update(1)
            ).tensors
    with atomic_folder(out, "config.json") as work:
        for file in model.iterdir():
            shutil.copyfile(file, work / file.name)
        heads.write(work, found)
    return out


def captions() -> None:
    """The captioning task on the bundled model's pictures."""
    still = frozen(model_folder(), default_cache(), 1)
    folders = {
        layers: small.tune(layers, BUNDLES / "compared" / f"decoder-{layers or 'all'}", still)
        for layers in (None, *STATIC)
    }
    out = BUNDLES / "compared" / "captions"
    static = [word for layers in STATIC for word in ("--static", str(folders[layers]))]
    model = with_heads(folders[None], BUNDLES / "compared" / "with-heads")
    cli("compare", str(model), *static, "--data", "stickers", "--out", str(out))
    figures = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    command = "mue-edge compare WITH-HEADS --static DECODER-1 --static DECODER-2 --data stickers"
    write("compare", command, (*CORE, *SEGMENTS, *MODEL, *COVERED, "tools/proofs/compare.py"), figures)
