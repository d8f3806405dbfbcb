"""Trains the entailment model: `python -m tools.entailment.train --steps N --out FOLDER`.

Needs the output of the stickers' recipe. The captioner's encoder stays as it is, so that pictures pass the
trunk and statements the encoder once; the decoder learns from the captioner's by the layer-wise loss, at
drawn encoder depths of both modalities.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mue_edge.apps.stickers import model_folder as captioner_folder
from mue_edge.apps.stickers.dataset import Stickers, default_cache, read
from mue_edge.apps.stickers.evaluation import still
from mue_edge.calibrate.training.finetune import Trainer, TrainingSettings, train
from mue_edge.files import sha256
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.training.captions import sample_depths
from tools.entailment import states
from tools.entailment.batches import Pairs, Statements, encoded
from tools.entailment.network import FEEDS, answer_ids, cut, from_captioner, tokenizer_of, write_model
from tools.entailment.pairs import Pair, balanced, names_of
from tools.entailment.patches import patches
from tools.entailment.rules import LABELS
from tools.stickers.objective import Depths
from tools.stickers.small import Loss

PICTURES = 16_600
SHALLOW_SHARE = 0.6  # of the steps: encoder depths drawn at random, so that early exits work together


def objective(
    model: Model, answers: Tensor, kept: NDArray[np.float16], pairs: Pairs, said: Statements, by: Loss, step: int
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a step, at the encoder depths drawn for it, of one view of each of its pictures."""
    rng = torch.Generator().manual_seed(pairs.seed * 1_000_003 + step)
    depths, batch = sample_depths(model.config.encoder_layers, SHALLOW_SHARE, rng), pairs(step)
    view = torch.randint(0, len(kept), (len(batch.places),), generator=rng).numpy()
    seen = torch.from_numpy(kept[view, batch.places]).float()
    of = torch.arange(len(seen)).repeat_interleave(len(batch.labels) // len(seen))
    asked = encoded(model, seen, said, batch.hypotheses, of, depths)
    found = states.logits(model.decoder, asked, said.prompts(batch.hypotheses), answers)
    loss, last = states.loss(found, batch.labels, pairs.weights, by)
    right = found.detach().argmax(-1).eq(batch.labels).float().mean(1)
    return loss, {"last": float(last), "right": float(right[-1]), "right_first": float(right[0])}


@torch.inference_mode()
def embedded(model: Model, data: Stickers, pairs: list[Pair]) -> dict[int, Tensor]:
    """Row → patches [P, d] of the pairs' pictures on white; the trunk is never trained here."""
    rows = np.unique([pair.row for pair in pairs])
    found: dict[int, Tensor] = {}
    for chunk in np.array_split(rows, -(-len(rows) // 64)):
        seen, _ = model.encoder.embed_patches(still(data, chunk, model.config.preprocess))
        found |= dict(zip(chunk.tolist(), seen))
    return found


@torch.inference_mode()
def answered(
    model: Model,
    said: Statements,
    answers: Tensor,
    seen: dict[int, Tensor],
    pairs: list[Pair],
    depths: Depths,
    batch: int = 64,
) -> NDArray[np.int64]:
    """The answer (its place in LABELS) after each decoder layer [L, n], the encoder at fixed depths."""
    found = []
    for start in range(0, len(pairs), batch):
        part = pairs[start : start + batch]
        rows, of = np.unique([pair.row for pair in part], return_inverse=True)
        patches = torch.stack([seen[row] for row in rows.tolist()])
        hypotheses = [pair.hypothesis for pair in part]
        asked = encoded(model, patches, said, hypotheses, torch.from_numpy(of), depths)
        found.append(states.logits(model.decoder, asked, said.prompts(hypotheses), answers).argmax(-1))
    return torch.cat(found, 1).numpy()


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="For checkpoint, log, model.")
@click.option("--steps", type=int, required=True, help="Of the whole schedule.")
@click.option("--layers", type=click.IntRange(1), help="Of the decoder, the first ones.  [default: all]")
@click.option("--start", type=click.Path(path_type=Path, exists=True), help="Go on from this model of the task.")
@click.option("--loss", type=click.Choice(get_args(Loss)), default="mean", show_default=True, help="Over layers.")
@click.option("--batch", default=24, show_default=True, help="Pictures a step, with 6 statements each.")
@click.option("--rate", default=1e-3, show_default=True, help="Highest learning rate.")
@click.option(
    "--feed",
    type=click.Choice(FEEDS),
    default=FEEDS[0],
    show_default=True,
    help="What the decoder reads before it answers.",
)
@click.option("--pictures", default=PICTURES, show_default=True, help="Of the training split, in mixed order.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--save-every", default=600.0, show_default=True, help="Seconds between checkpoints.")
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
def main(
    out: Path,
    steps: int,
    layers: int | None,
    start: Path | None,
    loss: Loss,
    batch: int,
    rate: float,
    feed: str,
    pictures: int,
    seed: int,
    threads: int,
    save_every: float,
    cache: Path | None,
) -> None:
    """Train the entailment model, or go on from OUT's checkpoint."""
    torch.set_num_threads(threads)
    cache = cache or default_cache()
    data = read(cache)
    names, tokenizer = names_of(data, cache), tokenizer_of(data, cache)
    model = from_captioner(tokenizer, layers, seed) if start is None else cut(start, layers)
    kept, places = patches(model, sha256(captioner_folder() / "model.safetensors"), data, pictures, cache)
    pairs, said = Pairs(data, names, batch, seed, places), Statements(model, tokenizer, feed)
    answers, held = answer_ids(model, tokenizer), balanced(data, "val_render", names)
    labels = np.array([LABELS.index(pair.label) for pair in held])
    full, seen = 2 * (model.config.encoder_layers,), embedded(model, data, held)
    trainer = Trainer(
        model,
        nn.Module(),
        lambda step, _progress: objective(model, answers, kept, pairs, said, loss, step),
        TrainingSettings(steps=steps, learning_rate=rate, save_every=save_every, ema=0.995, bf16=False),
    )
    model.eval()  # there is no dropout, and the trunk keeps its statistics

    def report(trained: Trainer[Model]) -> dict[str, float]:
        averaged = trained.averaged(lambda _copy: None)
        seen_names = [data.records[row].caption for row in data.rows("train").tolist()]
        write_model(averaged, tokenizer, feed, seen_names, out / "model")
        right = (answered(averaged, said, answers, seen, held, full) == labels).mean(1)
        return {f"val_render accuracy, {i} decoder layers": float(r) for i, r in enumerate(right, 1)}

    train(trainer, out, report)


if __name__ == "__main__":
    main()
