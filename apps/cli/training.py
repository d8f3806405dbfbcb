"""What `mue-edge train` learns from; and `--heads`: what an exit rule needs beside a network that stays."""

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
from mue_edge.apps.cli.terminal import say, with_bar
from mue_edge.bundle.manifest import Preprocess
from mue_edge.calibrate.data import statement_tables
from mue_edge.calibrate.data.examples import read, without_missing
from mue_edge.calibrate.data.pictures import Pictures
from mue_edge.calibrate.training import head_training, missing_heads, teachers
from mue_edge.calibrate.training.caption_batches import CaptionBatches, targets
from mue_edge.calibrate.training.caption_training import VALIDATED, split
from mue_edge.calibrate.training.depths import mixed
from mue_edge.calibrate.training.teachers import Teacher
from mue_edge.errors import UsageError, command_line
from mue_edge.inputs import tokens
from mue_edge.rules import RULES


def train_heads(o: TrainingOptions) -> None:
    """Write MODEL with this rule's heads, and print how well they predict."""
    folder, kind = resolve_model(str(o.model)), RULES[str(o.heads)].heads or ""
    teacher = teachers.of_folder(folder)
    steps, batches = _batches(o, folder, teacher)
    with click.progressbar(length=steps, label="answers", file=sys.stderr) as bar:
        heads = head_training.train(kind, teacher, batches, seed=o.seed, progress=lambda: bar.update(1))
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


def _batches(o: TrainingOptions, folder: Path, teacher: Teacher) -> tuple[int, Iterable[Any]]:
    """How many batches heads are trained on, and those: captioned pictures, or statements about some."""
    p, tokenizer = models.describe(teacher.model).preprocess, tokens.load(folder / "tokenizer.json")
    vocabulary = statement_vocabulary(folder, tokenizer)
    if vocabulary is not None:
        if o.augment or o.skip_bad:
            raise UsageError("statements are shown with their pictures as they are: no --augment, no --skip-bad")
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


def pictures(o: TrainingOptions, p: Preprocess, leader: bool) -> tuple[Pictures, Pictures | None, list[str]]:
    """Pictures to learn from and to validate on, as the model takes them, and what was left out."""
    examples, problems = without_missing(read(o.data, kind=o.kind, images=o.images), skip=o.skip_bad)
    if o.val is not None:
        held_out, more = without_missing(read(o.val, images=o.val_images), skip=o.skip_bad)
        problems += more
    else:
        examples, held_out = split(examples, o.val_share)
    if not examples:
        raise UsageError(f"{o.data} has too few pictures to hold some out; give --val-share 0")

    validated = mixed(held_out, VALIDATED)
    some = f"{len(validated)} of {len(held_out)}" if len(validated) < len(held_out) else f"{len(validated)}"
    if leader:
        say(f"checking {len(examples)} pictures to learn from and {some} to validate on")
    bars = [with_bar(label) if leader else iter for label in ("pictures", "validation")]
    keep = o.cache_pictures << 20
    learned = Pictures(examples, p, skip_bad=o.skip_bad, keep_bytes=keep, progress=bars[0])
    if not validated:
        return learned, None, problems + learned.problems
    tests = Pictures(validated, p, skip_bad=o.skip_bad, keep_bytes=0, progress=bars[1])
    return learned, tests, problems + learned.problems + tests.problems
