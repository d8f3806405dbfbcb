"""`mue-edge compare` as a user calls it: every exit method, and small static models, on one backbone, and
rules on decoders that were trained as their papers do.

The backbone is the bundled model whose decoder was trained on as long as the others were, so that none has
had more of it. All are trained with three seeds. Training goes on where it was stopped; so do the traces.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mue_edge.apps.cli.terminal import progress
from mue_edge.apps.stickers import model_folder
from mue_edge.apps.stickers.dataset import default_cache, read
from mue_edge.calibrate.training import missing_heads
from mue_edge.files import atomic_write
from proving import trainings
from proving.bundles import BUNDLES, cli
from proving.signals import views
from tools.stickers.decoders import frozen
from tools.stickers.study import finished, log_of

PLACE = BUNDLES / "compared"
SPENT = PLACE / "minutes.json"
SEEDS = 3
FITTED = 1000  # pictures that heads are fitted on
TUNE = 888  # all there are: the best of many candidates on a few pictures is often a lucky one
# Folder → how its decoder is trained: the options of `tools.stickers.small`.
DECODERS = {
    "decoder-all": [], "decoder-1": ["--layers", "1"], "decoder-2": ["--layers", "2"],
    "decoder-depth": ["--loss", "depth"], "decoder-last": ["--loss", "last"],
}  # fmt: skip
STATIC = ("decoder-1", "decoder-2")
# Rules whose papers train the backbone by another loss than MuE's.
OWN = {
    "decoder-depth": ("calm-softmax", "calm-saturation", "calm-classifier", "pabee"),
    "decoder-last": ("deebert-ramps", "deecap"),
}


def train() -> None:
    """Every decoder with every seed."""
    frozen(model_folder(), default_cache(), 1)  # the encoder's output is computed once, before they share it
    trainings.run(
        [
            ["tools.stickers.small", *words, "--seed", str(seed), "--out", str(PLACE / name / f"seed-{seed}")]
            for name, words in DECODERS.items()
            for seed in range(SEEDS)
            if not finished(PLACE / name / f"seed-{seed}")
        ]
    )


def with_heads(name: str) -> Path:
    """Copies of the seeds' models with heads of every kind, fitted on augmented training pictures."""
    out = PLACE / f"{name}-with-heads"
    for trained in sorted((PLACE / name).glob("seed-*")):
        missing_heads.completed(
            trained / "model",
            out / trained.name,
            lambda _side: list(views(read(), FITTED)),
            progress,
            seed=int(trained.name.removeprefix("seed-")),
        )
    return out


@contextmanager
def counted(part: str) -> Iterator[None]:
    """Adds the minutes that a part takes to those of the runs before, for one that goes on."""
    began = time.monotonic()
    yield
    minutes = _minutes()
    minutes[part] = minutes.get(part, 0.0) + (time.monotonic() - began) / 60
    atomic_write(SPENT, json.dumps(minutes))


def _minutes() -> dict[str, float]:
    return json.loads(SPENT.read_text(encoding="utf-8")) if SPENT.is_file() else {}


def captions(vocabulary: int | None = None) -> dict[str, Any]:
    """The captioning task on the bundled model's pictures; as if its head had so many words."""
    train()
    out = PLACE / "captions"
    words = [word for name in STATIC for word in ("--static", str(PLACE / name))]
    with counted("heads"):
        for name, rules in OWN.items():
            words += ["--own", f"{','.join(rules)}={with_heads(name)}"]
        whole = with_heads("decoder-all")
    with counted("comparison"):
        words += [] if vocabulary is None else ["--vocabulary", str(vocabulary)]
        cli("compare", str(whole), *words, "--data", "stickers", "--tune", str(TUNE), "--out", str(out))
    logs = [log_of(file.parent)[-1]["seconds"] for file in PLACE.glob("decoder-*/seed-*/log.jsonl")]
    trained = sum(logs) / (os.cpu_count() or 1) / 60  # as many at once as there are cores
    record = out / ("comparison.json" if vocabulary is None else f"comparison-{vocabulary}.json")
    figures: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    return figures | {"minutes": {"trainings": trained} | _minutes()}
