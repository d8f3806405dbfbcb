"""Options of `mue-edge train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from mue_edge.apps.cli.completion import models
from mue_edge.apps.cli.options.common import format_option, images_option, skip_bad_option
from mue_edge.apps.cli.options.sets import option, shared
from mue_edge.apps.cli.options.types import Existing
from mue_edge.rules import RULES


@dataclass(frozen=True)
class TrainingOptions:
    """The options of `mue-edge train`, and its model."""

    model: str | None = shared(click.argument("model", shell_complete=models, required=False))
    data: Path = option("--data", required=True, type=Existing(), help="Pictures with captions.")
    out: Path = option("--out", required=True, type=click.Path(path_type=Path), help="The run's folder.")
    kind: str | None = shared(format_option)
    images: Path | None = shared(images_option)
    val: Path | None = option("--val", type=Existing(), help="Validation data.")
    val_images: Path | None = option("--val-images", type=Existing(), help="Where its pictures are.")
    val_share: float = option(
        "--val-share",
        type=click.FloatRange(0, 0.5),
        default=0.05,
        show_default=True,
        help="Without --val: this share of the pictures.",
    )
    config: Path | None = option(
        "--config", type=Existing(), help="No MODEL: config.json of an untrained one."
    )
    tokenizer: Path | None = option(
        "--tokenizer", type=Existing(), help="With --config: tokenizer.json or vocabulary folder."
    )
    encoder: str | None = option(
        "--encoder",
        type=click.Choice(["decomposed", "joint"]),
        help="MuE's, or one that reads picture and text in one sequence.  [default: the model's]",
    )
    loss: Literal["sum", "mean"] = option(
        "--loss",
        type=click.Choice(["sum", "mean"]),
        default="sum",
        show_default=True,
        help="Over decoder layers.",
    )
    label_smoothing: float = option(
        "--label-smoothing", type=click.FloatRange(0, 0.9), default=0.1, show_default=True
    )
    shallow: float = option(
        "--shallow",
        type=click.FloatRange(0, 1),
        default=0.4,
        show_default=True,
        help="Share of the steps whose encoder depths are drawn.",
    )
    epochs: float | None = option(
        "--epochs", type=click.FloatRange(0, min_open=True), help="Length of the schedule: epochs,"
    )
    steps: int | None = option("--steps", type=click.IntRange(1), help="or steps,")
    minutes: float | None = option(
        "--minutes", type=click.FloatRange(0, min_open=True), help="or minutes.  [default: 5 epochs]"
    )
    batch: int = option(
        "--batch",
        type=click.IntRange(1),
        default=32,
        show_default=True,
        help="Captions a step, all processes.",
    )
    rate: float | None = option(
        "--rate", type=float, help="Highest learning rate.  [default: 3e-5; untrained model: 1e-3]"
    )
    warm_up: float = option(
        "--warm-up", type=click.FloatRange(0.001, 0.9), default=0.06, show_default=True, help="Share."
    )
    weight_decay: float = option("--weight-decay", type=click.FloatRange(0), default=0.01, show_default=True)
    ema: float = option(
        "--ema",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.999,
        show_default=True,
        help="Decay of the running average of weights that is written.",
    )
    batchnorm: str | None = option(
        "--batchnorm",
        type=click.Choice(["frozen", "trained"]),
        help="The trunk's statistics.  [default: frozen; untrained model: trained]",
    )
    bf16: bool | None = option(
        "--bf16/--no-bf16", default=None, help="bfloat16 autocast.  [default: where the processor has it]"
    )
    augment: bool = option("--augment/--no-augment", default=False, help="Vary pictures (never mirrored).")
    max_tokens: int = option(
        "--max-tokens", type=click.IntRange(1), default=30, show_default=True, help="Longer captions are cut."
    )
    skip_bad: bool = shared(skip_bad_option)
    cache_pictures: int = option(
        "--cache-pictures",
        type=click.IntRange(0),
        default=1024,
        show_default=True,
        help="MiB of decoded pictures that each process keeps.",
    )
    seed: int = option("--seed", type=click.IntRange(0), default=0, show_default=True)
    threads: int | None = option("--threads", type=click.IntRange(1), help="Of each process.")
    save_every: float = option("--save-every", type=float, default=300.0, show_default=True, help="Seconds.")
    log_every: int = option(
        "--log-every", type=click.IntRange(1), default=20, show_default=True, help="Steps."
    )
    heads: str | None = option(
        "--heads",
        type=click.Choice([name for name, rule in RULES.items() if rule.heads]),
        help="Leave the network as it is and train the heads of this exit rule.",
    )

    def to_repeat(self) -> dict[str, Any]:
        """What a command that goes on must have in common with the one that began."""
        free = {
            "out", "threads", "save_every", "log_every", "skip_bad", "cache_pictures", "images", "val_images",
        }  # fmt: skip
        return {
            k: v if type(v) in (int, float, bool) else str(v) for k, v in vars(self).items() if k not in free
        }
