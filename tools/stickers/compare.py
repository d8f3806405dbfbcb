"""What leaving early costs the network that can: `python -m tools.stickers.compare`.

Compares the trained network, paired on the same pictures, (a) at one decoder layer with a network that has
one only, (b) at full depth with one that learnt by its last layer's loss only. Writes
`evidence/stickers-comparison.json` and its block of the model card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from mue_edge import models
from mue_edge.apps.stickers.evaluation import caption
from mue_edge.calibrate.metrics.bootstrap import Tally, estimate, relative_change
from mue_edge.calibrate.metrics.coco_metrics import available
from mue_edge.calibrate.training.caption_training import learner
from mue_edge.errors import InputFileError, missing_extra
from mue_edge.files import sha256
from mue_edge.models.family import Depths
from tools.stickers.evidence import header, write
from tools.stickers.figures import UNION, Found, by_depth, shown
from tools.stickers.tables import CARD, ROOT, interval

COMMAND = "python -m tools.stickers.compare --full RUN --one-layer RUN --last-layer RUN"
COVERED = (
    "tools/stickers/compare.py",
    "apps/stickers/evaluation.py",
    "tools/stickers/figures.py",
    "calibrate/metrics/bootstrap.py",
    "calibrate/metrics/coco_metrics.py",
    "calibrate/metrics/quality.py",
    "mue_edge/models/ofa/decoding/greedy.py",
)
PARTS = ("test_render", "test_comp")
# Relative loss of CIDEr-D on the union that is allowed at most.
LIMITS = {"one decoder layer": 0.03, "full depth": 0.02}


@dataclass(frozen=True)
class Arm:
    """One training run, its captions by split and depths, and what its log says."""

    layers: Depths
    splits: dict[str, Found]
    record: dict[str, Any]


def model_of(folder: Path) -> Path:
    """The model folder of a training run (or the folder itself). Raises InputFileError without one."""
    for place in (folder / "model", folder):
        if (place / "config.json").is_file():
            return place
    raise InputFileError(
        f"{folder} holds no trained model; make one with: python -m tools.stickers.train --out {folder}"
    )


def last_of_log(folder: Path) -> dict[str, float]:
    """The last value of everything that the run's log.jsonl names; nothing without a log."""
    path = folder / "log.jsonl"
    found: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found |= json.loads(line)
        except ValueError as problem:
            raise InputFileError(f"{path} has a line that is not JSON: {line[:80]!r}") from problem
    return found


def arm(folder: Path, decoder_depths: tuple[int, ...], cache: Path | None, limit: int | None) -> Arm:
    """Captions of a run at full encoder depth; decoder depth 0 means all layers."""
    place = model_of(folder)
    pupil = learner(place, None)
    layers = models.describe(pupil.model).depths
    cells = list(dict.fromkeys((layers[0], depth or layers[1]) for depth in decoder_depths))
    splits = {split: Found(*caption(pupil, split, cells, cache=cache, limit=limit)) for split in PARTS}
    record: dict[str, Any] = {"model_sha256": sha256(place / "model.safetensors"), "encoder_layers": layers[0]}
    record |= {"decoder_layers": layers[1]} | last_of_log(folder)
    return Arm(layers, splits | {UNION: splits[PARTS[0]] + splits[PARTS[1]]}, record)


def question(
    what: str, pairs: Sequence[tuple[Arm, Arm]], shared_depth: int, parts: Sequence[str] = (*PARTS, UNION)
) -> dict[str, Any]:
    """The shared network at a decoder depth against another at its full depth, on each split.

    `pairs` of both, one a seed, are pooled: a picture's captions by all of them count.
    """
    splits = {
        name: paired(
            [shared.splits[name].at((shared.layers[0], shared_depth)) for shared, _ in pairs],
            [alone.splits[name].at(alone.layers) for _, alone in pairs],
        )
        for name in parts
    }
    change = splits[UNION]["cider_d"]["change"]["mean"]
    limit = LIMITS[what]
    holds = change is not None and change >= -limit
    return {"what": what, "limit": limit, "holds_on": UNION, "holds": holds, "splits": splits}


def paired(shared: Sequence[Found], alone: Sequence[Found]) -> dict[str, Any]:
    """Each metric of both, and the relative change from `alone` to `shared`."""
    a, clusters = pooled(shared)
    b, _ = pooled(alone)
    return {
        name: {
            "shared": shown(estimate(a[name], clusters)),
            "alone": shown(estimate(b[name], clusters)),
            "change": shown(relative_change(a[name], b[name], clusters)),
        }
        for name in a
    }


def pooled(runs: Sequence[Found]) -> tuple[dict[str, Tally], list[str]]:
    """Metrics over the captions of several runs, each judged by itself, and each caption's cluster.

    A picture's clusters are drawn with all of its captions, so intervals are those of pictures, not of
    training runs.
    """
    found = [by_depth(run) for run in runs]
    tallies = [run.metrics[run.deepest] for run in found]
    metrics = {
        name: Tally(np.concatenate([each[name].rows for each in tallies]), first.value)
        for name, first in tallies[0].items()
    }
    return metrics, [cluster for run in found for cluster in run.clusters]


def say(questions: Sequence[Mapping[str, Any]]) -> None:
    """The answers in a line each."""
    for asked in questions:
        change = interval(asked["splits"][UNION]["cider_d"]["change"], 1, 100, "+")
        click.echo(f"{asked['what']}: CIDEr-D {change} % on {UNION} (allowed: {-100 * asked['limit']:.0f} %)")


@click.command()
@click.option("--full", type=click.Path(path_type=Path), required=True, help="The run with all exits.")
@click.option("--one-layer", type=click.Path(path_type=Path), required=True, help="One decoder layer.")
@click.option("--last-layer", type=click.Path(path_type=Path), required=True, help="The last layer's loss.")
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "evidence/stickers-comparison.json")
@click.option("--card", type=click.Path(path_type=Path, exists=True), default=CARD, help="The page to fill.")
@click.option("--limit", type=click.IntRange(2), help="Only so many pictures a split, to try it.")
@click.option("--threads", default=1, show_default=True)
def main(
    full: Path,
    one_layer: Path,
    last_layer: Path,
    cache: Path | None,
    out: Path,
    card: Path,
    limit: int | None,
    threads: int,
) -> None:
    """Compare three training runs (folders of `train --out`) on the test splits."""
    if not available():
        raise missing_extra("pycocoevalcap", "evaluate")
    torch.set_num_threads(threads)
    for folder in (full, one_layer, last_layer):
        model_of(folder)
    arms = {
        "all exits": arm(full, (1, 0), cache, limit),
        "one decoder layer only": arm(one_layer, (0,), cache, limit),
        "last layer's loss only": arm(last_layer, (0,), cache, limit),
    }
    shared, single, last = arms.values()
    questions = [
        question("one decoder layer", [(shared, single)], 1),
        question("full depth", [(shared, last)], shared.layers[1]),
    ]
    content = header("stickers-comparison", COMMAND, COVERED)
    content |= {"arms": {name: a.record for name, a in arms.items()}, "questions": questions}
    write(out, card, "stickers-comparison", content)
    say(questions)
    click.echo(f"written: {out}, {card}")


if __name__ == "__main__":
    main()
