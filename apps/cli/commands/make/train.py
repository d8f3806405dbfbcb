"""`mue-edge train`: fine-tune a model on captioned pictures, a loss at every layer."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mue_edge import models
from mue_edge.apps.cli.catalogue import resolve_model
from mue_edge.apps.cli.options import takes
from mue_edge.apps.cli.options.common import max_pixels_option
from mue_edge.apps.cli.options.training import TrainingOptions
from mue_edge.apps.cli.terminal import bar, say
from mue_edge.errors import UsageError, command_line, missing_extra

if TYPE_CHECKING:
    from mue_edge.calibrate.training.finetune import State

PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal


@click.command("train")
@takes(TrainingOptions)
@max_pixels_option
def command(o: TrainingOptions) -> None:
    """Fine-tune MODEL (a model folder, or `stickers`) on captioned pictures; every decoder layer learns.

    OUT gets model/ (the model folder), log.jsonl, loss.svg and checkpoint.pt; the same command goes on
    after a kill. DATA is a folder of pictures with a table in it, a CSV, TSV or JSON-lines table with
    image and caption, COCO's captions JSON, or OFA's TSV. Several processes:
    torchrun --nproc-per-node 2 -m mue_edge train …

    With --heads, OUT gets model/ with heads.safetensors beside the same weights (heads of other rules that
    MODEL has are kept); pictures are passed once unless --steps says otherwise (better with --augment), and
    captions are the model's own. For a MODEL that judges statements, DATA is a table of image and hypothesis
    (and caption, where the model was trained with them).
    """
    if sum(length is not None for length in (o.epochs, o.steps, o.minutes)) > 1:
        raise UsageError("give one of --epochs, --steps and --minutes")
    if o.heads and o.model is None:
        raise UsageError("heads are trained on a model that is: give a MODEL with --heads")
    if (o.model is None) != (o.config is not None and o.tokenizer is not None):
        raise UsageError("give either a MODEL, or --config and --tokenizer for an untrained one")
    if o.model is not None:
        resolve_model(o.model)  # mistakes first: loading torch takes seconds
    try:
        import torch
    except ImportError as problem:
        raise missing_extra("torch", "train") from problem
    if o.threads:
        torch.set_num_threads(o.threads)
    distributed = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if distributed:
        torch.distributed.init_process_group("gloo")
    try:
        if o.heads:
            from mue_edge.apps.cli.training import train_heads

            train_heads(o)
        else:
            _train(o)
    finally:
        if distributed:
            torch.distributed.destroy_process_group()


def _train(o: TrainingOptions) -> None:
    import torch

    from mue_edge.apps.cli.training import pictures
    from mue_edge.calibrate.training.caption_batches import CaptionBatches, targets
    from mue_edge.calibrate.training.caption_training import CaptionRun, Learner, Recipe, learner
    from mue_edge.calibrate.training.finetune import TrainingSettings, has_bf16

    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    leader, untrained = rank == 0, o.model is None
    decomposed = None if o.encoder is None else o.encoder == "decomposed"
    if o.model is None:
        torch.manual_seed(o.seed)
        pupil = Learner(*models.fresh(Path(str(o.config)), Path(str(o.tokenizer)), decomposed))
    else:
        pupil = learner(resolve_model(o.model), decomposed)
    description = models.describe(pupil.model)
    longest = min(o.max_tokens, description.longest_caption)
    learned, held_out, problems = pictures(o, description.preprocess, leader)
    captions, notes = targets(learned.examples, pupil.tokenizer, longest)
    validation = None
    if held_out is not None:
        expected, more = targets(held_out.examples, pupil.tokenizer, longest)
        validation, notes = (held_out, expected), notes + [f"validation: {line}" for line in more]
    beyond = [f"… {len(problems) - 10} more"] if len(problems) > 10 else []
    if leader:
        for line in (*problems[:10], *beyond, *notes):
            say(f"note: {line}")
    batches = CaptionBatches(
        learned, captions, o.batch, o.seed, pupil.tokenizer.pad, augment=o.augment, rank=rank, world=world
    )
    steps = o.steps
    if steps is None and o.minutes is None:
        steps = max(1, round((o.epochs or 5) * batches.steps_per_epoch))
    names = ("minutes", "warm_up", "weight_decay", "ema", "save_every", "log_every")
    rate = o.rate or (1e-3 if untrained else 3e-5)
    bf16 = has_bf16() if o.bf16 is None else o.bf16
    same = {name: getattr(o, name) for name in names}
    settings = TrainingSettings(steps=steps, learning_rate=rate, bf16=bf16, **same)
    train_trunk = o.batchnorm == "trained" if o.batchnorm else untrained
    recipe = Recipe(o.loss, o.label_smoothing, o.shallow, train_trunk)
    run = CaptionRun(pupil, recipe, settings, batches, validation, o.out)
    length = f"{o.minutes:g} minutes" if o.minutes else f"{steps} steps"
    if leader:
        say(f"{len(captions)} captions of {len(learned)} pictures, {length} of {batches.batch} captions")
    with bar("training", 1000) as advance:
        run.run(o.to_repeat(), _TrainingReport(steps, advance))
    if leader:
        _end(o)


def _end(o: TrainingOptions) -> None:
    figures: dict[str, float] = {}
    for line in (o.out / "log.jsonl").read_text(encoding="utf-8").splitlines():
        figures |= json.loads(line)
    summary = f"loss {figures['loss']:.3f} ({o.loss} over layers)"
    if "val exact match" in figures:
        validated = f"{figures['val captions written']:g} held-out pictures"
        summary += f", exact match {figures['val exact match']:.3f} on {validated}"
    click.echo(f"{o.out / 'model'}: {summary}; loss by layer: {o.out / 'loss.svg'}")
    click.echo("next: " + command_line("export", o.out / "model", "--target", "host", "--out", "BUNDLE"))


class _TrainingReport:
    """Reports progress on standard error: by a bar on a terminal, else by a line now and then."""

    def __init__(self, steps: int | None, advance: Callable[[int, str], None]) -> None:
        self._steps, self._advance = steps, advance
        self._begun, self._done, self._last, self._loss = False, 0, -PLAIN_EVERY, ""

    def __call__(self, state: State, figures: dict[str, float] | None) -> None:
        if not self._begun and state.step > 1:
            say(f"going on after step {state.step - 1}")
        self._begun = True
        if figures is not None:
            self._loss = f"loss {figures['loss']:.3f}"
        done = int(1000 * state.progress)
        self._advance(done - self._done, self._loss)
        self._done = done
        due = time.monotonic() - self._last >= PLAIN_EVERY or state.progress >= 1
        if figures is not None and due and not sys.stderr.isatty():
            self._last = time.monotonic()
            of = f" of {self._steps}" if self._steps else f" ({100 * state.progress:.0f} %)"
            say(f"step {state.step}{of}, {self._loss}, {state.seconds:.0f} s")
