"""`mue-edge compare` as a user calls it: every exit method, and small static models, on one backbone.

The backbone is the bundled model whose decoder was trained on as long as the static models' were, so that
none has had more of it. Training goes on where it was stopped; so do the traces.
"""

from __future__ import annotations

import json

from mue_edge.apps.stickers import model_folder, small
from mue_edge.apps.stickers.decoders import frozen
from mue_edge.apps.stickers.sources import default_cache
from proofs.bundles import BUNDLES, cli
from proofs.covered import CORE, MODEL, SEGMENTS
from proofs.record import write

STATIC = (1, 2)  # decoder layers
COVERED = (
    "calibrate/comparison.py",
    "calibrate/held.py",
    "calibrate/candidates.py",
    "apps/stickers/small.py",
)


def captions() -> None:
    """The captioning task on the bundled model's pictures."""
    still = frozen(model_folder(), default_cache(), 1)
    folders = {
        layers: small.tune(layers, BUNDLES / "compared" / f"decoder-{layers or 'all'}", still)
        for layers in (None, *STATIC)
    }
    out = BUNDLES / "compared" / "captions"
    static = [word for layers in STATIC for word in ("--static", str(folders[layers]))]
    cli("compare", str(folders[None]), *static, "--data", "stickers", "--out", str(out))
    figures = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    command = "mue-edge compare DECODER-ALL --static DECODER-1 --static DECODER-2 --data stickers"
    write("compare", command, (*CORE, *SEGMENTS, *MODEL, *COVERED, "tools/proofs/compare.py"), figures)
