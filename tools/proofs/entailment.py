"""The bundled entailment model: what it answers, and which exits cost what."""

from __future__ import annotations

import json

from proofs.bundles import BUNDLES, cli
from proofs.covered import CORE, SEGMENTS
from proofs.record import write

MODEL = tuple(
    f"apps/entailment/model/{name}"
    for name in ("model.safetensors", "config.json", "prompts.json", "tokenizer.json")
)
PAIRS = tuple(f"apps/entailment/{name}.py" for name in ("rules", "pairs"))


def accuracy() -> None:
    """Accuracy on held-out pairs against what can be guessed from the statement alone."""
    from mue_edge.apps.entailment import model_folder
    from mue_edge.apps.entailment.evaluation import measured
    from mue_edge.apps.stickers.sources import default_cache

    covered = (*MODEL, *PAIRS, "apps/entailment/baseline.py", "mue_edge/models/ofa/entail.py")
    figures = measured(model_folder(), default_cache())
    write("entailment", "python -m mue_edge.apps.entailment.evaluation", covered, figures)


def compare() -> None:
    """Every exit method, and which modality may leave early, through the exported bundle."""
    out = BUNDLES / "compared" / "entailment"
    cli("compare", "stickers-entail", "--out", str(out))
    figures = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    covered = (*CORE, *SEGMENTS, *MODEL, *PAIRS, "calibrate/comparison.py", "calibrate/candidates.py")
    write("compare-entail", "mue-edge compare stickers-entail", covered, figures)
