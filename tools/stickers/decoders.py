"""Whether its exits starve a decoder's layers, asked with the encoder held still:
`python -m tools.stickers.decoders`.

Trains fresh decoders on the bundled model's frozen encoder, from the same initial weights, on the same
batches and steps: one with every layer's loss, one of one layer, one with its last layer's loss only. Then
compares them as `compare` does, pooled over seeds and for each. It may be stopped, and goes on. Writes
`evidence/stickers-decoders.json`, its block of the model card, and `docs/stickers-decoders.svg`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from mue_edge.apps.stickers import model_folder
from mue_edge.apps.stickers.dataset import Stickers, default_cache, read
from mue_edge.calibrate.metrics.bootstrap import estimate
from mue_edge.calibrate.metrics.coco_metrics import available
from mue_edge.calibrate.report.charts import lines
from mue_edge.calibrate.training.caption_training import Learner, learner
from mue_edge.calibrate.training.finetune import Trainer, TrainingSettings, train
from mue_edge.errors import missing_extra
from mue_edge.files import atomic_write, sha256
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.network.decoder import Decoder
from tools.stickers import compare
from tools.stickers.encoded import Encoded, EncodedBatches, encoded
from tools.stickers.evidence import header, write
from tools.stickers.figures import UNION, by_depth, shown
from tools.stickers.objective import decoder_loss
from tools.stickers.study import VAL, claim, curve, finished, log_of
from tools.stickers.tables import CARD, ROOT
from tools.stickers.train import LABEL_SMOOTHING, exact_match, write_model

COMMAND = "python -m tools.stickers.decoders"
COVERED = (
    *compare.COVERED,
    "tools/stickers/decoders.py",
    "tools/stickers/encoded.py",
    "tools/stickers/batches.py",
    "apps/stickers/model/model.safetensors",
    "calibrate/data/augment.py",
    "calibrate/training/finetune.py",
    "mue_edge/models/ofa/network/decoder.py",
    "mue_edge/models/ofa/training/captions.py",
    "tools/stickers/objective.py",
)
SPLIT, POINTS = "val_render", 5  # at most so many points of a learning curve, but for the last
EMA = 0.995  # of the weights: over about a sixth of these short runs; the shipped run, .999, over a fifth


@dataclass(frozen=True)
class Arm:
    """What is trained. `layers` of the decoder; none: the bundled model's."""

    name: str
    layers: int | None = None
    last_layer_only: bool = False


SHARED, SINGLE, LAST = Arm("all-exits"), Arm("one-layer", layers=1), Arm("last-layer", last_layer_only=True)
ARMS = (SHARED, SINGLE, LAST)


@dataclass(frozen=True)
class Frozen:
    """What does not move: the bundled model's encoder with the table of words, and what it made of the
    training pictures."""

    learner: Learner
    model: Model
    weights: str  # the sha256 of its file
    data: Stickers
    kept: Encoded


def frozen(folder: Path, cache: Path, views: int) -> Frozen:
    """The model of a folder, and its encoder's output for so many views of each training picture."""
    pupil = learner(folder, None)
    model = pupil.model
    assert isinstance(model, Model)
    model.requires_grad_(False)
    model.encoder.embed_images.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    data = read(cache)
    weights = sha256(folder / "model.safetensors")
    return Frozen(pupil, model, weights, data, encoded(model, weights, pupil.prompt, data, views, cache))


def fresh(model: Model, arm: Arm, seed: int) -> Decoder:
    """An arm's untrained decoder beside the model's encoder.

    Layers are drawn last, first layer first: decoders of one seed are equal in what they share.
    """
    torch.manual_seed(seed)
    layers = arm.layers or model.config.decoder_layers
    return Decoder(replace(model.config, decoder_layers=layers), model.encoder.embed_tokens)


def joined(model: Model, decoder: Decoder) -> Model:
    """The model's encoder with another decoder."""
    with torch.device("meta"):
        made = Model(decoder.config)
    made.encoder, made.decoder = model.encoder, decoder
    return made.eval()


def train_arm(arm: Arm, seed: int, folder: Path, still: Frozen, batch: int, settings: TrainingSettings) -> None:
    """Train an arm to its end, or go on with it. Raises UsageError when its folder is of another run."""
    words = {"arm": asdict(arm), "seed": seed, "batch": batch, "views": len(still.kept.pictures)}
    claim(folder, words | {"settings": asdict(settings), "model_sha256": still.weights})
    decoder = fresh(still.model, arm, seed)
    batches = EncodedBatches(still.kept, still.data, still.learner.tokenizer, batch, seed)

    def objective(step: int, _progress: float) -> tuple[Tensor, dict[str, float]]:
        states, tokens = batches(step)
        loss, last = decoder_loss(
            decoder, states, tokens, label_smoothing=LABEL_SMOOTHING, last_layer_only=arm.last_layer_only
        )
        return loss, {"words": last}

    def report(trained: Trainer[Decoder]) -> dict[str, float]:
        progress = trained.state.progress
        before = max((line["progress"] for line in log_of(folder) if VAL in line), default=0.0)
        if progress < 1 and progress - before < 1 / POINTS:
            return {}  # a checkpoint costs little, captions of val_render as much as many steps
        model = joined(still.model, trained.averaged(lambda _decoder: None))
        write_model(model, still.learner.tokenizer, folder / "model")
        return {VAL: exact_match(model, still.learner.tokenizer, still.data, SPLIT, still.learner.prompt)}

    train(Trainer(decoder, nn.Module(), objective, settings), folder, report)


def collect(out: Path, seeds: int, model: Path, cache: Path, limit: int | None) -> dict[str, Any]:
    """Both questions pooled over the seeds and for each, the runs' records, and the bundled decoder."""
    runs = {
        arm: [
            compare.arm(out / f"{arm.name}-{seed}", (1, 0) if arm is SHARED else (0,), cache, limit)
            for seed in range(seeds)
        ]
        for arm in ARMS
    }
    deep = runs[SHARED][0].layers[1]
    questions = []
    for what, depth, alone in (("one decoder layer", 1, SINGLE), ("full depth", deep, LAST)):
        pairs = list(zip(runs[SHARED], runs[alone], strict=True))
        asked = compare.question(what, pairs, depth)
        each = [compare.question(what, [pair], depth, (UNION,))["splits"][UNION] for pair in pairs]
        questions.append(asked | {"by_seed": each})
    records = [
        {"name": arm.name, "seed": seed} | run.record | {"learning_curve": curves(out / f"{arm.name}-{seed}")}
        for arm in ARMS
        for seed, run in enumerate(runs[arm])
    ]
    bundled = compare.arm(model, (1, 0), cache, limit)
    return {"questions": questions, "runs": records, "bundled": reference(bundled)}


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """A run's loss by step, thinned, and its exact match at every checkpoint."""
    log = log_of(folder)
    return {"loss": curve(log, "loss"), VAL: curve(log, VAL, len(log))}


def reference(run: compare.Arm) -> list[dict[str, Any]]:
    """The union's figures at one decoder layer and at all."""
    rows = []
    for depth in dict.fromkeys((1, run.layers[1])):
        found = by_depth(run.splits[UNION].at((run.layers[0], depth)))
        metrics = {name: shown(estimate(t, found.clusters)) for name, t in found.metrics[found.deepest].items()}
        rows.append({"decoder_depth": depth} | metrics)
    return rows


def chart(runs: list[dict[str, Any]]) -> str:
    """Exact match on val_render by step, a curve a run."""
    return lines({f"{run['name']} {run['seed']}": run["learning_curve"][VAL] for run in runs}, "step", VAL)


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=2, show_default=True)
@click.option("--steps", default=1500, show_default=True, help="Of every run.")
@click.option("--batch", default=24, show_default=True, help="Pictures a step.")
@click.option("--rate", default=1.5e-3, show_default=True, help="Highest learning rate.")
@click.option("--views", type=click.IntRange(1), default=1, show_default=True, help="Of a training picture.")
@click.option("--save-every", default=30.0, show_default=True, help="Seconds between checkpoints.")
@click.option("--runs", "place", type=click.Path(path_type=Path), default=Path("out") / "decoders", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "evidence/stickers-decoders.json")
@click.option("--card", type=click.Path(path_type=Path, exists=True), default=CARD, help="The page to fill.")
@click.option("--chart", "drawn", type=click.Path(path_type=Path), default=ROOT / "docs/stickers-decoders.svg")
@click.option("--model", type=click.Path(path_type=Path), help="Another model folder.  [default: bundled]")
@click.option("--limit", type=click.IntRange(2), help="Measure only so many pictures a split, to try it.")
@click.option("--threads", default=1, show_default=True)
def main(
    seeds: int,
    steps: int,
    batch: int,
    rate: float,
    views: int,
    save_every: float,
    place: Path,
    cache: Path | None,
    out: Path,
    card: Path,
    drawn: Path,
    model: Path | None,
    limit: int | None,
    threads: int,
) -> None:
    """Train the arms with every seed, or go on; then compare them on the test splits."""
    if not available():
        raise missing_extra("pycocoevalcap", "evaluate")
    torch.set_num_threads(threads)
    cache = cache or default_cache()
    model = model or model_folder()
    still = frozen(model, cache, views)
    settings = TrainingSettings(steps=steps, learning_rate=rate, ema=EMA, save_every=save_every)
    for seed in range(seeds):
        for arm in ARMS:
            folder = place / f"{arm.name}-{seed}"
            if not finished(folder):
                train_arm(arm, seed, folder, still, batch, settings)
    content = header("stickers-decoders", COMMAND, COVERED)
    content |= {"training": {"steps": steps, "batch": batch, "views": views, "rate": rate, "ema": EMA}}
    content |= collect(place, seeds, model, cache, limit)
    write(out, card, "stickers-decoders", content)
    drawn.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(drawn, chart(content["runs"]))
    compare.say(content["questions"])
    click.echo(f"written: {out}, {card}, {drawn}")


if __name__ == "__main__":
    main()
