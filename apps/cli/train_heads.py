"""`mue-edge train --heads`: what an exit rule needs beside a network that stays as it is."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from mue_edge import models
from mue_edge.apps.cli.calibration_pictures import statement_vocabulary
from mue_edge.apps.cli.catalogue import resolve_model
from mue_edge.apps.cli.options.training import TrainingOptions
from mue_edge.apps.cli.terminal import say
from mue_edge.apps.cli.training_pictures import pictures
from mue_edge.calibrate.data import statement_tables
from mue_edge.calibrate.training import missing_heads, teachers
from mue_edge.calibrate.training.caption_batches import CaptionBatches, targets
from mue_edge.calibrate.training.teachers import Answers, CaptionBatch
from mue_edge.calibrate.training.trainers import TRAINERS
from mue_edge.errors import UsageError, command_line
from mue_edge.inputs import tokens
from mue_edge.rules import RULES


def train_heads(o: TrainingOptions) -> None:
    """Write MODEL with this rule's heads, and print how well they predict."""
    folder, kind = resolve_model(str(o.model)), RULES[str(o.heads)].heads or ""
    teacher = teachers.of_folder(folder)
    steps, batches = _batches(o, folder, teacher)
    with click.progressbar(length=steps, label="answers", file=sys.stderr) as bar:
        heads = TRAINERS[kind](teacher, batches, seed=o.seed, progress=lambda: bar.update(1))
    tensors = models.training(teacher.model).heads(teacher.model) | {kind: heads.tensors}
    missing_heads.write(folder, o.out / "model", tensors)
    signals = list(heads.boundaries[0].auc)
    click.echo(f"AUC of what predicts that an exit there keeps the answer, by {heads.cases} held out:")
    click.echo(f"after layer  {heads.cases + 's':>8}   kept  " + "".join(f"{name:>20}" for name in signals))
    for b in heads.boundaries:
        areas = "".join(f"{'–' if b.auc[name] is None else f'{b.auc[name]:.2f}':>20}" for name in signals)
        click.echo(f"{b.depth:11}  {b.cases:8}  {b.kept:.3f}  {areas}")
    after = command_line("export", o.out / "model", "--target", "host", "--out", "BUNDLE")
    click.echo(f"wrote {o.out / 'model'}; next: {after}")


def _batches(o: TrainingOptions, folder: Path, teacher: CaptionBatch | Answers) -> tuple[int, Iterable[Any]]:
    """How many batches heads are trained on, and those: captioned pictures, or statements about some."""
    p, tokenizer = models.describe(teacher.model).preprocess, tokens.load(folder / "tokenizer.json")
    vocabulary = statement_vocabulary(folder, tokenizer)
    if vocabulary is not None:
        if o.augment or o.skip_bad:
            raise UsageError(
                "statements are shown with their pictures as they are: no --augment, no --skip-bad"
            )
        statements = statement_tables.read(o.data, vocabulary, o.images, say)
        pairs = teachers.batches(statements, p, o.batch)[: o.steps]
        return len(pairs), pairs
    learned, _, problems = pictures(o, p, leader=True)
    for line in problems:
        say(f"note: {line}")
    captions, _ = targets(learned.examples, tokenizer, o.max_tokens)
    batches = CaptionBatches(learned, captions, o.batch, o.seed, tokenizer.pad, augment=o.augment)
    steps = o.steps or batches.steps_per_epoch
    return steps, (batches(step).pixels for step in range(steps))
