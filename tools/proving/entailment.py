"""Every exit method on the bundled entailment model, and models that are trained for a comparison with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mue_edge.apps.cli.terminal import progress
from mue_edge.apps.entailment import model_folder
from mue_edge.apps.stickers.dataset import default_cache
from mue_edge.bundle.manifest import Preprocess
from mue_edge.calibrate.training import missing_heads
from mue_edge.calibrate.training.teachers import StatementBatch
from proving import trainings
from proving.bundles import BUNDLES, cli
from tools.stickers.study import log_of

PLACE = BUNDLES / "compared-entail"
STEPS = 150
# Folder → how it goes on from the bundled model: options of `tools.entailment.train`.
MODELS = {
    "entail-1": ["--layers", "1", "--loss", "last"],
    "entail-depth": ["--loss", "depth"],
    "entail-last": ["--loss", "last"],
}
# Rules whose papers train the backbone by another loss than MuE's.
OWN = {"entail-depth": ("calm-softmax", "pabee"), "entail-last": ("deebert-ramps", "deecap")}
TUNE = 578  # statements, all that there are
FITTED, PICTURES = 56, 3  # batches that heads are fitted on, pictures in each with 6 statements


def train() -> None:
    """Models that go on from the bundled one, by the losses that papers name."""
    start = ["--start", str(model_folder()), "--steps", str(STEPS), "--batch", "16", "--rate", "2e-4"]
    trainings.run(
        [
            ["tools.entailment.train", *start, *words, "--out", str(PLACE / name)]
            for name, words in MODELS.items()
            if not _finished(PLACE / name)
        ]
    )


def _finished(folder: Path) -> bool:
    return any("val_render accuracy, 1 decoder layers" in line and line["progress"] >= 1 for line in log_of(folder))


def shown(p: Preprocess) -> list[StatementBatch]:
    """Training pictures on white with statements about them, to fit heads on."""
    import numpy as np
    import torch

    from mue_edge.apps.stickers.dataset import read
    from mue_edge.apps.stickers.evaluation import still
    from tools.entailment.batches import Pairs as Drawn
    from tools.entailment.network import source_ids, tokenizer_of
    from tools.entailment.pairs import names_of

    data, cache = read(), default_cache()
    tokenizer, rows = tokenizer_of(data, cache), data.rows("train")
    drawn = Drawn(data, names_of(data, cache), PICTURES, 1, np.arange(len(rows)))
    found = []
    for step in range(FITTED):
        batch = drawn(step)
        pixels = still(data, rows[batch.places], p)
        each = torch.arange(len(pixels)).repeat_interleave(len(batch.hypotheses) // len(pixels))
        found.append(StatementBatch(pixels[each], tuple(tuple(source_ids(tokenizer, h)) for h in batch.hypotheses)))
    return found


def with_heads(model: Path, name: str) -> Path:
    """A copy of a model with heads of every kind."""
    return missing_heads.completed(model, PLACE / f"{name}-with-heads", shown, progress)


def compared() -> dict[str, Any]:
    """Every exit method, and which modality may leave early, through the exported bundle."""
    train()
    out = PLACE / "compared"
    words = ["--static", str(PLACE / "entail-1")]
    for name, rules in OWN.items():
        words += ["--own", f"{','.join(rules)}={with_heads(PLACE / name / 'model', name)}"]
    whole = with_heads(model_folder(), "bundled")
    cli("compare", str(whole), *words, "--data", "stickers-entail", "--tune", str(TUNE), "--out", str(out))
    figures: dict[str, Any] = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    return figures
