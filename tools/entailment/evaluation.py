"""Measures an entailment model on the stickers' pairs: `python -m tools.entailment.evaluation`.

Accuracy at fixed depths, beside what can be guessed from the statements alone. Nothing is chosen on these
splits; val_render was for choices.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from mue_edge import models
from mue_edge.apps.entailment import model_folder
from mue_edge.apps.stickers.dataset import Stickers, default_cache, read
from mue_edge.calibrate.metrics.bootstrap import estimate, mean_of
from mue_edge.inputs import tokens
from mue_edge.models.ofa.model import load
from tools.entailment.baseline import Guesser
from tools.entailment.batches import Statements
from tools.entailment.network import answer_ids
from tools.entailment.pairs import Pair, balanced, names_of
from tools.entailment.rules import LABELS, Names
from tools.entailment.train import answered, embedded
from tools.stickers.splits import unit

SPLITS = ("test_render", "cal_render")


def measured(folder: Path, cache: Path, splits: tuple[str, ...] = SPLITS) -> dict[str, Any]:
    """Split → accuracy of the model at full depth, of guesses from the statement, their difference, accuracy
    by label, and by image, text and decoder layers; how often it denies what is far from the picture."""
    data = read(cache)
    names, model = names_of(data, cache), load(folder, models.read_config(folder))
    tokenizer = tokens.load(folder / "tokenizer.json")
    feed = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))["entail"]["decoder"]
    said, answers = Statements(model, tokenizer, feed), answer_ids(model, tokenizer)
    guess, found = Guesser(balanced(data, "train", names)), {}
    layers = model.config.encoder_layers
    for split in splits:
        pairs = balanced(data, split, names)
        seen, labels = embedded(model, data, pairs), _labels(pairs)
        cells: dict[str, float] = {}
        for image, text in ((1, 1), (1, layers), (3, 3), (layers, 1), (layers, layers)):
            right = answered(model, said, answers, seen, pairs, (image, text)) == labels
            cells |= {f"{image} {text} {i}": float(r) for i, r in enumerate(right.mean(1), 1)}
            if (image, text) == (layers, layers):
                full = right[-1]
        far = _far(data, split, names)
        said_no = answered(model, said, answers, embedded(model, data, far), far, (layers, layers))[-1]
        found[split] = _figures(data, pairs, full, guess(pairs) == labels) | {
            "by_depth": cells,
            "far": {"pairs": len(far), "no": float((said_no == LABELS.index("no")).mean())},
        }
    return found


def _far(data: Stickers, split: str, names: Names) -> list[Pair]:
    """A name of another thing altogether for every picture; they are not among the balanced pairs."""
    records = [(row, data.records[row]) for row in data.rows(split).tolist()]
    return [Pair(row, names.far(r.caption, unit("far", r.id)), "no") for row, r in records]


def _figures(data: Stickers, pairs: list[Pair], full: NDArray[np.bool_], guessed: NDArray[np.bool_]) -> dict[str, Any]:
    clusters, labels = [data.records[pair.row].emoji for pair in pairs], _labels(pairs)

    def shown(values: NDArray[Any]) -> dict[str, float]:
        return asdict(estimate(mean_of(values.astype(float).tolist()), clusters))

    return {
        "pairs": len(pairs), "clusters": len(set(clusters)), "accuracy": shown(full),
        "hypothesis_only": shown(guessed), "difference": shown(full.astype(float) - guessed),
        "by_label": {label: float(full[labels == i].mean()) for i, label in enumerate(LABELS)},
    }  # fmt: skip


def _labels(pairs: list[Pair]) -> NDArray[np.int64]:
    return np.array([LABELS.index(pair.label) for pair in pairs])


@click.command()
@click.argument("model", type=click.Path(path_type=Path), default=model_folder())
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
@click.option("--split", "splits", multiple=True, default=SPLITS, show_default=True)
def main(model: Path, cache: Path | None, splits: tuple[str, ...]) -> None:
    """Print the figures of a model folder as JSON."""
    torch.set_num_threads(1)
    click.echo(json.dumps(measured(model, cache or default_cache(), splits), indent=1))


if __name__ == "__main__":
    main()
