"""Options of `mue-edge train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from mue_edge.apps.cli.completion import models
from mue_edge.apps.cli.options import Existing, option, shared
from mue_edge.apps.cli.options.common import POSITIVE, format_option, images_option, skip_bad_option
from mue_edge.rules import RULES

# Options that do not change what is learned, so that a command that goes on may differ in them.
_FREE = {"out", "threads", "save_every", "log_every", "skip_bad", "cache_pictures", "images", "val_images"}


@dataclass(frozen=True)
class TrainingOptions:
    """The options of `mue-edge train`, and its model."""

    model: str | None = shared(click.argument("model", shell_complete=models, required=False))
    data: Path = option("Pictures with captions.", required=True, type=Existing())
    out: Path = option("The run's folder.", required=True)
    kind: str | None = shared(format_option)
    images: Path | None = shared(images_option)
    val: Path | None = option("Validation data.", type=Existing())
    val_images: Path | None = option("Where its pictures are.", type=Existing())
    val_share: float = option("Without --val: this share of the pictures.", type=click.FloatRange(0, 0.5), default=0.05)
    config: Path | None = option("No MODEL: config.json of an untrained one.", type=Existing())
    tokenizer: Path | None = option("With --config: tokenizer.json or vocabulary folder.", type=Existing())
    encoder: str | None = option(
        "MuE's, or one that reads picture and text in one sequence.  [default: the model's]",
        type=click.Choice(["decomposed", "joint"]),
    )
    loss: Literal["sum", "mean"] = option("Over decoder layers.", default="sum")
    label_smoothing: float = option(type=click.FloatRange(0, 0.9), default=0.1)
    shallow: float = option(
        "Share of the steps whose encoder depths are drawn.", type=click.FloatRange(0, 1), default=0.4
    )
    epochs: float | None = option("Length of the schedule: epochs,", type=click.FloatRange(0, min_open=True))
    steps: int | None = option("or steps,", type=POSITIVE)
    minutes: float | None = option("or minutes.  [default: 5 epochs]", type=click.FloatRange(0, min_open=True))
    batch: int = option("Captions a step, all processes.", type=POSITIVE, default=32)
    rate: float | None = option("Highest learning rate.  [default: 3e-5; untrained model: 1e-3]")
    warm_up: float = option("Share.", type=click.FloatRange(0.001, 0.9), default=0.06)
    weight_decay: float = option(type=click.FloatRange(0), default=0.01)
    ema: float = option(
        "Decay of the running average of weights that is written.",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.999,
    )
    batchnorm: str | None = option(
        "The trunk's statistics.  [default: frozen; untrained model: trained]", type=click.Choice(["frozen", "trained"])
    )
    bf16: bool | None = option(
        "bfloat16 autocast.  [default: where the processor has it]", "--bf16/--no-bf16", default=None
    )
    augment: bool = option(
        "Vary pictures (never mirrored).", "--augment/--no-augment", default=False, show_default=False
    )
    max_tokens: int = option("Longer captions are cut.", type=POSITIVE, default=30)
    skip_bad: bool = shared(skip_bad_option)
    cache_pictures: int = option(
        "MiB of decoded pictures that each process keeps.", type=click.IntRange(0), default=1024
    )
    seed: int = option(type=click.IntRange(0), default=0)
    threads: int | None = option("Of each process.", type=POSITIVE)
    save_every: float = option("Seconds.", default=300.0)
    log_every: int = option("Steps.", type=POSITIVE, default=20)
    heads: str | None = option(
        "Leave the network as it is and train the heads of this exit rule.",
        type=click.Choice([name for name, rule in RULES.items() if rule.heads]),
    )

    def to_repeat(self) -> dict[str, Any]:
        """What a command that goes on must have in common with the one that began."""
        return {
            name: value if type(value) in (int, float, bool) else str(value)
            for name, value in vars(self).items()
            if name not in _FREE
        }
