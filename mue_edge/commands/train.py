"""`mue-edge train`: fine-tune a model on captioned pictures with MuE's layer-wise loss."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from mue_edge.errors import UsageError, missing_extra
from mue_edge.rules import RULES

if TYPE_CHECKING:
    from mue_edge.calibrate.examples import Example
    from mue_edge.calibrate.finetune import State
    from mue_edge.calibrate.pictures import Pictures
    from mue_edge.calibrate.teachers import Answers, Captions

PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal


@dataclass(frozen=True)
class _Options:
    """The command's options, by their names."""

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


@click.command("train")
@click.argument("model", required=False)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Pictures with captions.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The run's folder.")
@click.option("--format", "kind", help="folder, csv, tsv, jsonl, coco or ofa.  [default: recognised]")
@click.option("--images", type=click.Path(path_type=Path), help="Where pictures are.  [default: the table's]")
@click.option("--val", type=click.Path(path_type=Path), help="Validation data.")
@click.option("--val-images", type=click.Path(path_type=Path), help="Where its pictures are.")
@click.option(
    "--val-share", type=click.FloatRange(0, 0.5), default=0.05, show_default=True,
    help="Without --val: this share of the pictures.",
)  # fmt: skip
@click.option("--config", type=click.Path(path_type=Path), help="No MODEL: config.json of an untrained one.")
@click.option(
    "--tokenizer", type=click.Path(path_type=Path), help="With --config: tokenizer.json or vocabulary folder."
)
@click.option(
    "--encoder", type=click.Choice(["decomposed", "joint"]), help="MuE's or OFA's.  [default: the model's]"
)
@click.option(
    "--loss",
    type=click.Choice(["sum", "mean"]),
    default="sum",
    show_default=True,
    help="Over decoder layers.",
)
@click.option("--label-smoothing", type=click.FloatRange(0, 0.9), default=0.1, show_default=True)
@click.option(
    "--shallow", type=click.FloatRange(0, 1), default=0.4, show_default=True,
    help="Share of the steps whose encoder depths are drawn.",
)  # fmt: skip
@click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Length of the schedule: epochs,")
@click.option("--steps", type=click.IntRange(1), help="or steps,")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="or minutes.  [default: 5 epochs]")
@click.option(
    "--batch", type=click.IntRange(1), default=32, show_default=True, help="Captions a step, all processes."
)
@click.option("--rate", type=float, help="Highest learning rate.  [default: 3e-5; untrained model: 1e-3]")
@click.option("--warm-up", type=click.FloatRange(0.001, 0.9), default=0.06, show_default=True, help="Share.")
@click.option("--weight-decay", type=click.FloatRange(0), default=0.01, show_default=True)
@click.option(
    "--ema", type=click.FloatRange(0, 1, max_open=True), default=0.999, show_default=True,
    help="Decay of the running average of weights that is written.",
)  # fmt: skip
@click.option(
    "--batchnorm", type=click.Choice(["frozen", "trained"]),
    help="The trunk's statistics.  [default: frozen; untrained model: trained]",
)  # fmt: skip
@click.option(
    "--bf16/--no-bf16", default=None, help="bfloat16 autocast.  [default: where the processor has it]"
)
@click.option("--augment/--no-augment", default=False, help="Vary pictures (never mirrored).")
@click.option(
    "--max-tokens", type=click.IntRange(1), default=30, show_default=True, help="Longer captions are cut."
)
@click.option("--skip-bad", is_flag=True, help="Leave out pictures that are missing or damaged.")
@click.option(
    "--cache-pictures", type=click.IntRange(0), default=1024, show_default=True,
    help="MiB of decoded pictures that each process keeps.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="Of each process.")
@click.option("--save-every", type=float, default=300.0, show_default=True, help="Seconds.")
@click.option("--log-every", type=click.IntRange(1), default=20, show_default=True, help="Steps.")
@click.option(
    "--heads", type=click.Choice([name for name, rule in RULES.items() if rule.heads]),
    help="Leave the network as it is and train the heads of this exit rule.",
)  # fmt: skip
def command(**options: Any) -> None:
    """Fine-tune MODEL (a model folder, or `stickers`) on captioned pictures; every decoder layer learns.

    OUT gets model/ (the model folder), log.jsonl, loss.svg and checkpoint.pt; the same command goes on
    after a kill. DATA is a folder of pictures with a table in it, a CSV, TSV or JSON-lines table with
    image and caption, COCO's captions JSON, or OFA's TSV. Several processes:
    torchrun --nproc-per-node 2 -m mue_edge train …

    With --heads, OUT gets model/ with heads.safetensors beside the same weights (heads of other rules that
    MODEL has are kept); pictures are passed once unless --steps says otherwise (better with --augment), and
    captions are the model's own. For a MODEL that judges statements, DATA is a table of image and hypothesis.
    """
    chosen = _Options(**options)
    given = [chosen.epochs, chosen.steps, chosen.minutes]
    if len([x for x in given if x is not None]) > 1:
        raise UsageError("give one of --epochs, --steps and --minutes")
    if chosen.heads and chosen.model is None:
        raise UsageError("heads are trained on a model that is: give a MODEL with --heads")
    if (chosen.model is None) != (chosen.config is not None and chosen.tokenizer is not None):
        raise UsageError("give either a MODEL, or --config and --tokenizer for an untrained one")
    try:
        import torch
    except ImportError as problem:
        raise missing_extra("torch", "train") from problem
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several:
        torch.distributed.init_process_group("gloo")
    try:
        (_train_heads if chosen.heads else _train)(chosen)
    finally:
        if several:
            torch.distributed.destroy_process_group()


def _train(o: _Options) -> None:
    import torch

    from mue_edge.apps.catalogue import resolve_model
    from mue_edge.calibrate.caption_batches import CaptionBatches, targets
    from mue_edge.calibrate.caption_training import CaptionRun, Learner, Recipe, learner
    from mue_edge.calibrate.finetune import Settings, has_bf16
    from mue_edge.models import captioning
    from mue_edge.tokens import read_json

    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    leader, untrained = rank == 0, o.model is None
    decomposed = None if o.encoder is None else o.encoder == "decomposed"
    if o.model is None:
        torch.manual_seed(o.seed)
        config = read_json(str(o.config))
        config = {"family": "ofa"} | config | ({} if decomposed is None else {"decomposed": decomposed})
        pupil = Learner(*captioning.fresh(config, Path(str(o.tokenizer))))
    else:
        pupil = learner(resolve_model(o.model), decomposed)
    longest = min(o.max_tokens, captioning.longest_caption(pupil.model))
    side = captioning.image_size(pupil.model)
    shown, held, problems = _pictures(o, side, leader)
    learned, notes = targets(shown.examples, pupil.tokenizer, longest)
    validation = None
    if held is not None:
        tested, more = targets(held.examples, pupil.tokenizer, longest)
        validation, notes = (held, tested), notes + [f"validation: {line}" for line in more]
    for line in [*problems[:10], *([f"… {len(problems) - 10} more"] if len(problems) > 10 else []), *notes]:
        _say(leader, f"note: {line}")
    batches = CaptionBatches(
        shown, learned, o.batch, o.seed, pupil.tokenizer.pad, augment=o.augment, rank=rank, world=world
    )
    steps = o.steps
    if steps is None and o.minutes is None:
        steps = max(1, round((o.epochs or 5) * batches.steps_per_epoch))
    settings = Settings(
        steps=steps, minutes=o.minutes, learning_rate=o.rate or (1e-3 if untrained else 3e-5),
        warm_up=o.warm_up, weight_decay=o.weight_decay, ema=o.ema,
        bf16=has_bf16() if o.bf16 is None else o.bf16,
        save_every=o.save_every, log_every=o.log_every,
    )  # fmt: skip
    trained = o.batchnorm == "trained" if o.batchnorm else untrained
    recipe = Recipe(o.loss, o.label_smoothing, o.shallow, trained)
    run = CaptionRun(pupil, recipe, settings, batches, validation, o.out)
    length = f"{o.minutes:g} minutes" if o.minutes else f"{steps} steps"
    _say(leader, f"{len(learned)} captions of {len(shown)} pictures, {length} of {batches.batch} captions")
    with _Display(steps) as display:
        run.run(o.to_repeat(), display)
    _end(o, leader)


def _train_heads(o: _Options) -> None:
    from mue_edge.apps.catalogue import resolve_model
    from mue_edge.calibrate import missing_heads, teachers
    from mue_edge.calibrate.trainers import TRAINERS
    from mue_edge.models import captioning

    folder, kind = resolve_model(str(o.model)), RULES[str(o.heads)].heads or ""
    teacher = teachers.of_folder(folder)
    steps, shown = _shown(o, folder, teacher)
    with click.progressbar(length=steps, label="answers", file=sys.stderr) as bar:
        found = TRAINERS[kind](teacher, shown, seed=o.seed, progress=lambda: bar.update(1))
    missing_heads.write(folder, o.out / "model", captioning.heads(teacher.model) | {kind: found.tensors})
    signs = list(found.boundaries[0].auc)
    click.echo(f"AUC of what foretells that leaving there keeps the answer, by {found.cases} held out:")
    click.echo(f"after layer  {found.cases + 's':>8}   kept  " + "".join(f"{name:>20}" for name in signs))
    for b in found.boundaries:
        told = "".join(f"{'–' if b.auc[name] is None else f'{b.auc[name]:.2f}':>20}" for name in signs)
        click.echo(f"{b.depth:11}  {b.cases:8}  {b.kept:.3f}  {told}")
    click.echo(f"wrote {o.out / 'model'}; next: mue-edge export {o.out / 'model'} --target host --out BUNDLE")


def _shown(o: _Options, folder: Path, teacher: Captions | Answers) -> tuple[int, Iterable[Any]]:
    """How many batches heads are trained on, and those: captioned pictures, or statements about some."""
    from mue_edge import tokens
    from mue_edge.apps.calibration_pictures import asked_of
    from mue_edge.calibrate import statement_tables, teachers
    from mue_edge.calibrate.caption_batches import CaptionBatches, targets
    from mue_edge.models import captioning

    side, tokenizer = captioning.image_size(teacher.model), tokens.load(folder / "tokenizer.json")
    asked = asked_of(folder, tokenizer)
    if asked is not None:
        if o.augment or o.skip_bad:
            raise UsageError(
                "statements are shown with their pictures as they are: no --augment, no --skip-bad"
            )
        pairs = teachers.batches(statement_tables.read(o.data, asked, o.images), side, o.batch)[: o.steps]
        return len(pairs), pairs
    shown, _, problems = _pictures(o, side, True)
    for line in problems:
        _say(True, f"note: {line}")
    learned, _ = targets(shown.examples, tokenizer, o.max_tokens)
    batches = CaptionBatches(shown, learned, o.batch, o.seed, tokenizer.pad, augment=o.augment)
    steps = o.steps or batches.steps_per_epoch
    return steps, (batches(step).pixels for step in range(steps))


def _end(o: _Options, leader: bool) -> None:
    if not leader:
        return
    figures: dict[str, float] = {}
    for line in (o.out / "log.jsonl").read_text(encoding="utf-8").splitlines():
        figures |= json.loads(line)
    shown = f"loss {figures['loss']:.3f} ({o.loss} over layers)"
    if "val exact match" in figures:
        pictures = f"{figures['val captions written']:g} held-out pictures"
        shown += f", exact match {figures['val exact match']:.3f} on {pictures}"
    click.echo(f"{o.out / 'model'}: {shown}; loss by layer: {o.out / 'loss.svg'}")
    click.echo(f"next: mue-edge export {o.out / 'model'} --target host --out BUNDLE")


def _pictures(o: _Options, side: int, leader: bool) -> tuple[Pictures, Pictures | None, list[str]]:
    """Pictures to learn from and to validate on, and what was left out."""
    from mue_edge.calibrate.caption_training import VALIDATED, split
    from mue_edge.calibrate.depths import mixed
    from mue_edge.calibrate.examples import read, without_missing
    from mue_edge.calibrate.pictures import Pictures

    examples, problems = without_missing(read(o.data, kind=o.kind, images=o.images), skip=o.skip_bad)
    if o.val is not None:
        held, more = without_missing(read(o.val, images=o.val_images), skip=o.skip_bad)
        problems += more
    else:
        examples, held = split(examples, o.val_share)
    if not examples:
        raise UsageError(f"{o.data} has too few pictures to hold some out; give --val-share 0")

    tested = mixed(held, VALIDATED)
    some = f"{len(tested)} of {len(held)}" if len(tested) < len(held) else f"{len(tested)}"
    _say(leader, f"checking {len(examples)} pictures to learn from and {some} to validate on")

    def progress(label: str) -> Callable[[Sequence[Example]], Iterable[Example]]:
        def pass_on(found: Sequence[Example]) -> Iterable[Example]:
            if not (leader and sys.stderr.isatty()):
                yield from found
                return
            with click.progressbar(found, label=label, file=sys.stderr) as bar:
                yield from bar

        return pass_on

    keep = o.cache_pictures << 20
    shown = Pictures(examples, side, skip_bad=o.skip_bad, keep_bytes=keep, progress=progress("pictures"))
    if not tested:
        return shown, None, problems + shown.problems
    seen = Pictures(tested, side, skip_bad=o.skip_bad, keep_bytes=0, progress=progress("validation"))
    return shown, seen, problems + shown.problems + seen.problems


def _say(leader: bool, text: str) -> None:
    if leader:
        click.echo(text, err=True)


class _Display:
    """Progress on standard error: a bar on a terminal, else a line now and then."""

    def __init__(self, steps: int | None) -> None:
        self._steps = steps
        self._last = -PLAIN_EVERY
        self._loss = ""
        self._begun = False
        self._bar: Any = None

    def __enter__(self) -> _Display:
        if sys.stderr.isatty():
            self._bar = click.progressbar(
                length=1000, label="training", file=sys.stderr, item_show_func=lambda _item: self._loss
            )
            self._bar.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(*problem)

    def __call__(self, state: State, figures: dict[str, float] | None) -> None:
        if not self._begun and state.step > 1:
            click.echo(f"going on after step {state.step - 1}", err=True)
        self._begun = True
        if figures is not None:
            self._loss = f"loss {figures['loss']:.3f}"
        if self._bar is not None:
            self._bar.update(int(1000 * state.progress) - self._bar.pos, state)
        elif figures is not None and (time.monotonic() - self._last >= PLAIN_EVERY or state.progress >= 1):
            self._last = time.monotonic()
            of = f" of {self._steps}" if self._steps else f" ({100 * state.progress:.0f} %)"
            click.echo(f"step {state.step}{of}, {self._loss}, {state.seconds:.0f} s", err=True)
