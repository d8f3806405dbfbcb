"""Fine-tunes a model on captions with MuE's layer-wise loss, and writes its model folder.

A run has a folder: `model/`, `log.jsonl`, `loss.svg`, `checkpoint.pt` and `run.json`, by which the
same command goes on after a kill and another command is refused.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mue_edge import models
from mue_edge.calibrate.data.examples import Example, reference_text
from mue_edge.calibrate.data.pictures import Pictures
from mue_edge.calibrate.metrics.quality import caption_texts
from mue_edge.calibrate.report import charts
from mue_edge.calibrate.training.caption_batches import CaptionBatches, CaptionTarget
from mue_edge.calibrate.training.finetune import Trainer, TrainingSettings, Watch, train
from mue_edge.errors import InputFileError, UsageError
from mue_edge.files import atomic_folder, atomic_write
from mue_edge.inputs import tokens
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.reading import read_json

_STATISTICS = 1024  # pictures from which BatchNorm's statistics are taken anew
VALIDATED = 512  # pictures of the validation at most, of which
WRITTEN = 128  # captions are written for
LONGEST = 24  # tokens of a caption that is written in torch, for a model that can write so many


@dataclass(frozen=True)
class Learner:
    """A model with its tokenizer and the content of its prompts.json."""

    model: nn.Module
    tokenizer: Tokenizer
    prompts: dict[str, Any]

    @property
    def prompt(self) -> list[int]:
        """Ids of the caption prompt."""
        ids: list[int] = self.prompts["caption"]["ids"]
        return ids


@dataclass(frozen=True)
class Recipe:
    """What is minimised. `shallow`: share of the steps whose encoder depths are drawn at random."""

    over_layers: Literal["sum", "mean"] = "sum"
    label_smoothing: float = 0.1
    shallow: float = 0.4
    train_batchnorm: bool = False


def longest_caption(model: nn.Module) -> int:
    """Tokens of a caption that is written in torch, at most."""
    return min(LONGEST, models.describe(model).longest_caption)


def learner(folder: Path, decomposed: bool | None) -> Learner:
    """The model folder to start from. Raises InputFileError when it lacks vocabulary or caption prompt."""
    model = models.load(folder, decomposed)
    models.training(model)  # a family that has none
    for name in ("tokenizer.json", "prompts.json"):
        if not (folder / name).is_file():
            raise InputFileError(
                f"{folder} holds no {name}, so it cannot learn captions; "
                "import it again with: mue-edge import CHECKPOINT --tokenizer DIR --out FOLDER"
            )
    tokenizer, prompts = tokens.load(folder / "tokenizer.json"), read_json(folder / "prompts.json")
    try:
        ids = prompts["caption"]["ids"]
    except (KeyError, TypeError) as problem:
        raise InputFileError(f"{folder / 'prompts.json'} has no caption prompt") from problem
    if not tokenizer.words or not all(type(i) is int for i in ids):
        raise InputFileError(f"{folder}: captions need a vocabulary and a prompt of ids")
    return Learner(model, tokenizer, prompts)


def split(examples: Sequence[Example], share: float) -> tuple[list[Example], list[Example]]:
    """Training and validation examples: by a hash of the id, so that a picture keeps its side."""
    parts: tuple[list[Example], list[Example]] = [], []
    for example in examples:
        number = int.from_bytes(hashlib.sha256(example.id.encode()).digest()[:8], "big")
        parts[number < share * 2**64].append(example)
    return parts


@dataclass
class CaptionRun:
    """One run: the objective of a step, validation, and what is written to `out`."""

    learner: Learner
    recipe: Recipe
    settings: TrainingSettings
    batches: CaptionBatches
    validation: tuple[Pictures, Sequence[CaptionTarget]] | None
    out: Path
    _reported: bool = False

    def __post_init__(self) -> None:
        self.trainer = Trainer(self.learner.model, nn.Module(), self.objective, self.settings)
        for module in self.learner.model.modules():
            if isinstance(module, nn.BatchNorm2d) and not self.recipe.train_batchnorm:
                module.eval()

    def objective(self, step: int, _progress: float) -> tuple[Tensor, dict[str, float]]:
        """Loss a word of this process's share; the mean over processes is that of the whole step."""
        share, rng = self.batches(step), self.batches.generator(step, 7)
        options = {"shallow": self.recipe.shallow, "over_layers": self.recipe.over_layers, "rng": rng}
        loss, by_layer = self._loss(self.learner.model, share.pixels, share.tokens, **options)
        words = share.words / self.batches.world
        return loss / words, {f"layer {i}": v for i, v in enumerate((by_layer / words).tolist(), start=1)}

    def _loss(self, model: nn.Module, pixels: Tensor, tokens: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        """Of the words in all, and by layer."""
        loss, prompt = models.training(model).loss, self.learner.prompt
        return loss(model, prompt, pixels, tokens, label_smoothing=self.recipe.label_smoothing, **options)

    def run(self, command: dict[str, Any], watch: Watch) -> None:
        """Train to the end, or go on. `command` is what a later run must repeat to go on.

        Raises UsageError when `out` holds a run of another command.
        """
        if self.trainer.leader:
            self._claim(command)
        if self.trainer.parallel:
            torch.distributed.barrier()
        train(self.trainer, self.out, self._report, watch)
        if self.trainer.leader:
            if not self._reported:  # a kill came between the last checkpoint and the model
                self._report(self.trainer)
            self._draw()

    def _claim(self, command: dict[str, Any]) -> None:
        digest = hashlib.sha256()
        for target in self.batches.targets:
            digest.update(f"{self.batches.pictures.examples[target.row].id} {target.ids}\n".encode())
        header = self.out / "run.json"
        own = command | {"recipe": asdict(self.recipe), "data": digest.hexdigest()[:16]}
        if header.is_file():
            before = read_json(header)
            changed = [k for k in sorted(set(before) | set(own)) if before.get(k) != own.get(k)]
            if changed:
                raise UsageError(
                    f"{self.out} holds a run with another {', '.join(changed)}; repeat its command to go on, "
                    "or choose another --out"
                )
            for unfinished in self.out.glob(".model.*"):  # by a run that was killed
                shutil.rmtree(unfinished, ignore_errors=True)
            return
        if self.out.is_dir() and any(self.out.iterdir()):
            raise UsageError(f"{self.out} exists and holds other things; choose another --out or empty it")
        self.out.mkdir(parents=True, exist_ok=True)
        atomic_write(header, json.dumps(own, indent=1) + "\n")

    def _report(self, trainer: Trainer[nn.Module]) -> dict[str, float]:
        """Writes the model with averaged weights, and validates it."""
        pictures = self.batches.pictures
        order = torch.randperm(len(pictures), generator=self.batches.generator(0, 7))
        rows = order[:_STATISTICS].tolist() if self.recipe.train_batchnorm else []

        def gather_statistics(copy: nn.Module) -> None:
            for start in range(0, len(rows), 64):
                models.training(copy).see(copy, pictures.inputs(rows[start : start + 64]))

        averaged = trainer.averaged(gather_statistics)
        with atomic_folder(self.out / "model", "config.json") as work:
            models.write(averaged, work)
            self.learner.tokenizer.save(work / "tokenizer.json")
            # What it knew before is not what it knows after these pictures.
            prompts = {
                task: {key: value for key, value in prompt.items() if key != "knows"}
                for task, prompt in self.learner.prompts.items()
            }
            (work / "prompts.json").write_text(json.dumps(prompts, indent=1) + "\n", "utf-8")
        self._reported = True
        if self.validation is None:
            return {}
        return self._validate(averaged, *self.validation)

    @torch.no_grad()
    def _validate(self, model: nn.Module, pictures: Pictures, targets: Sequence[CaptionTarget]) -> dict[str, float]:
        """Loss a word by layer at full depth, as in training, and exact match of WRITTEN greedy captions."""
        sums, words, tokenizer = torch.zeros(models.describe(model).decoder_layers), 0, self.learner.tokenizer
        for start in range(0, len(targets), 32):
            part = targets[start : start + 32]
            inputs, tokens = pictures.inputs([t.row for t in part]), self.batches.tokens(part)
            sums += self._loss(model, inputs, tokens)[1]
            words += sum(len(t.ids) - 1 for t in part)
        correct, written = 0, min(WRITTEN, len(pictures))
        for start in range(0, written, 32):
            rows = range(start, min(start + 32, written))
            ids = models.training(model).greedy(
                model, self.learner.prompt, pictures.inputs(rows), max_length=longest_caption(model)
            )
            for row, text in zip(rows, caption_texts(tokenizer, ids)):
                correct += text in {reference_text(tokenizer, c) for c in pictures.examples[row].captions}
        by_layer = {f"val layer {i}": v / words for i, v in enumerate(sums.tolist(), start=1)}
        return by_layer | {"val exact match": correct / written, "val captions written": written}

    def _draw(self) -> None:
        curves: dict[str, list[tuple[float, float]]] = {}
        for line in (self.out / "log.jsonl").read_text("utf-8").splitlines():
            figures = json.loads(line)
            for name, value in figures.items():
                if name.startswith(("layer ", "val layer ")):
                    curves.setdefault(name, []).append((figures["step"], value))
        smoothing = self.recipe.label_smoothing
        unit = f"nats a word, label smoothing {smoothing:g}" if smoothing else "nats a word"
        atomic_write(self.out / "loss.svg", charts.lines(curves, "step", f"loss by decoder layer ({unit})"))
