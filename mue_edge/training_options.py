"""Options of `mue-edge train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from mue_edge.option_set import Existing, option_set
from mue_edge.pixels_option import max_pixels_option
from mue_edge.rules import RULES


@dataclass(frozen=True)
class TrainingOptions:
    """What `mue-edge train` was asked for: its options, by their names."""

    model: str | None
    data: Path
    out: Path
    kind: str | None
    images: Path | None
    val: Path | None
    val_images: Path | None
    val_share: float
    config: Path | None
    tokenizer: Path | None
    encoder: str | None
    loss: Literal["sum", "mean"]
    label_smoothing: float
    shallow: float
    epochs: float | None
    steps: int | None
    minutes: float | None
    batch: int
    rate: float | None
    warm_up: float
    weight_decay: float
    ema: float
    batchnorm: str | None
    bf16: bool | None
    augment: bool
    max_tokens: int
    skip_bad: bool
    cache_pictures: int
    seed: int
    threads: int | None
    save_every: float
    log_every: int
    heads: str | None

    def to_repeat(self) -> dict[str, Any]:
        """What a command that goes on must have in common with the one that began."""
        free = {
            "out", "threads", "save_every", "log_every", "skip_bad", "cache_pictures", "images", "val_images",
        }  # fmt: skip
        return {
            k: v if type(v) in (int, float, bool) else str(v) for k, v in vars(self).items() if k not in free
        }


# Gives a command every option of TrainingOptions but its model.
training_options = option_set((
    click.option("--data", required=True, type=Existing(), help="Pictures with captions."),
    click.option("--out", required=True, type=click.Path(path_type=Path), help="The run's folder."),
    click.option("--format", "kind", help="folder, csv, tsv, jsonl, coco or ofa.  [default: recognised]"),
    click.option("--images", type=Existing(),
                 help="Where pictures are.  [default: the table's]"),
    max_pixels_option,
    click.option("--val", type=Existing(), help="Validation data."),
    click.option("--val-images", type=Existing(), help="Where its pictures are."),
    click.option("--val-share", type=click.FloatRange(0, 0.5), default=0.05, show_default=True,
                 help="Without --val: this share of the pictures."),
    click.option("--config", type=Existing(),
                 help="No MODEL: config.json of an untrained one."),
    click.option("--tokenizer", type=Existing(),
                 help="With --config: tokenizer.json or vocabulary folder."),
    click.option("--encoder", type=click.Choice(["decomposed", "joint"]),
                 help="MuE's, or one that reads picture and text in one sequence.  [default: the model's]"),
    click.option("--loss", type=click.Choice(["sum", "mean"]), default="sum", show_default=True,
                 help="Over decoder layers."),
    click.option("--label-smoothing", type=click.FloatRange(0, 0.9), default=0.1, show_default=True),
    click.option("--shallow", type=click.FloatRange(0, 1), default=0.4, show_default=True,
                 help="Share of the steps whose encoder depths are drawn."),
    click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Length of the schedule: epochs,"),
    click.option("--steps", type=click.IntRange(1), help="or steps,"),
    click.option("--minutes", type=click.FloatRange(0, min_open=True),
                 help="or minutes.  [default: 5 epochs]"),
    click.option("--batch", type=click.IntRange(1), default=32, show_default=True,
                 help="Captions a step, all processes."),
    click.option("--rate", type=float, help="Highest learning rate.  [default: 3e-5; untrained model: 1e-3]"),
    click.option("--warm-up", type=click.FloatRange(0.001, 0.9), default=0.06, show_default=True,
                 help="Share."),
    click.option("--weight-decay", type=click.FloatRange(0), default=0.01, show_default=True),
    click.option("--ema", type=click.FloatRange(0, 1, max_open=True), default=0.999, show_default=True,
                 help="Decay of the running average of weights that is written."),
    click.option("--batchnorm", type=click.Choice(["frozen", "trained"]),
                 help="The trunk's statistics.  [default: frozen; untrained model: trained]"),
    click.option("--bf16/--no-bf16", default=None,
                 help="bfloat16 autocast.  [default: where the processor has it]"),
    click.option("--augment/--no-augment", default=False, help="Vary pictures (never mirrored)."),
    click.option("--max-tokens", type=click.IntRange(1), default=30, show_default=True,
                 help="Longer captions are cut."),
    click.option("--skip-bad", is_flag=True, help="Leave out pictures that are missing or damaged."),
    click.option("--cache-pictures", type=click.IntRange(0), default=1024, show_default=True,
                 help="MiB of decoded pictures that each process keeps."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
    click.option("--threads", type=click.IntRange(1), help="Of each process."),
    click.option("--save-every", type=float, default=300.0, show_default=True, help="Seconds."),
    click.option("--log-every", type=click.IntRange(1), default=20, show_default=True, help="Steps."),
    click.option("--heads", type=click.Choice([name for name, rule in RULES.items() if rule.heads]),
                 help="Leave the network as it is and train the heads of this exit rule."),
))  # fmt: skip
