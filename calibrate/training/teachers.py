"""What heads for exit tests are trained from: a frozen model and what its every layer makes of batches. One
for captions and one for answers about statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mue_edge import models
from mue_edge.bundle.manifest import Preprocess
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.training.caption_training import learner, longest_caption
from mue_edge.export.prompts import ENTAIL, read_prompt, task_of
from mue_edge.inputs import image, tokens
from mue_edge.loop.search import prompt_of
from mue_edge.models.steps import Steps

BATCH = 16


class Teacher(Protocol):
    """Shapes: B samples of a batch, N words of their answers, d the decoder's width, E encoder layers."""

    @property
    def model(self) -> nn.Module: ...

    def steps(self, batch: Any, rng: torch.Generator) -> Steps:
        """The words of the answers at full decoder depth and drawn encoder depths."""

    def kept(self, batch: Any) -> Tensor:
        """[B, E − 1]: whether leaving the picture's encoder after 1, 2, … layers keeps the answer."""

    def features(self, batch: Any) -> Tensor:
        """[B, d]: means over the picture's tokens before the first encoder layer."""

    def logits(self, states: Tensor) -> Tensor:
        """[..., V] of states [..., d]; −inf of what is no answer."""


@dataclass(frozen=True)
class CaptionTeacher:
    """A captioner; batches are pictures [B, 3, H, W]."""

    model: nn.Module
    prompt: Sequence[int]

    def steps(self, batch: Tensor, rng: torch.Generator) -> Steps:
        longest = longest_caption(self.model)
        return models.training(self.model).steps(self.model, self.prompt, batch, rng, longest)

    def kept(self, batch: Tensor) -> Tensor:
        encoder, decoder = models.describe(self.model).depths
        cells = [(depth, decoder) for depth in range(1, encoder + 1)]
        captions = models.training(self.model).greedy_by_depth(
            self.model, self.prompt, batch, cells, max_length=longest_caption(self.model)
        )
        full = captions[cells[-1]]
        return torch.tensor([[a == b for a, b in zip(captions[cell], full)] for cell in cells[:-1]]).T

    def features(self, batch: Tensor) -> Tensor:
        return models.training(self.model).features(self.model, batch)

    def logits(self, states: Tensor) -> Tensor:
        return models.training(self.model).logits(self.model, states)


@dataclass(frozen=True)
class StatementBatch:
    """Pictures [B, 3, H, W], and the ids of the source text around a statement about each."""

    pixels: Tensor
    sources: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class AnswerTeacher:
    """A model that judges statements. `answers`: ids of its answers; `fed`: what the decoder reads before it
    answers (`SearchSettings.fed`)."""

    model: nn.Module
    answers: tuple[int, ...]
    bos: int
    fed: tuple[int, ...]

    def steps(self, batch: StatementBatch, rng: torch.Generator) -> Steps:
        return models.judging(self.model).steps(
            self.model, self.answers, batch.pixels, batch.sources, self._fed(batch), rng
        )

    def kept(self, batch: StatementBatch) -> Tensor:
        answers = models.judging(self.model).by_encoder_depth(
            self.model, self.answers, batch.pixels, batch.sources, self._fed(batch)
        )
        return (answers[:-1] == answers[-1]).T

    def features(self, batch: StatementBatch) -> Tensor:
        return models.training(self.model).features(self.model, batch.pixels)

    def logits(self, states: Tensor) -> Tensor:
        return models.judging(self.model).logits(self.model, self.answers, states)

    def _fed(self, batch: StatementBatch) -> list[tuple[int, ...]]:
        return [prompt_of(self.bos, self.fed, ids) for ids in batch.sources]


class Once:
    """A teacher that answers each batch once, for all kinds of heads: they draw the same encoder depths."""

    def __init__(self, teacher: Teacher) -> None:
        self.model, self.kept, self.features = teacher.model, teacher.kept, teacher.features
        self.logits, self._steps_of, self._steps = teacher.logits, teacher.steps, dict[int, Steps]()

    def steps(self, batch: Any, rng: torch.Generator) -> Steps:
        if id(batch) not in self._steps:
            self._steps[id(batch)] = self._steps_of(batch, rng)
        return self._steps[id(batch)]


def of_folder(folder: Path) -> CaptionTeacher | AnswerTeacher:
    """The teacher that a model folder is. Raises InputFileError for one that lacks vocabulary or prompt."""
    if task_of(folder) == ENTAIL:
        prompt = read_prompt(folder, ENTAIL)
        bos = tokens.load(folder / "tokenizer.json").bos
        return AnswerTeacher(models.load(folder), tuple(prompt.answers.values()), bos, prompt.fed)
    captioner = learner(folder, None)
    return CaptionTeacher(captioner.model, captioner.prompt)


def batches(samples: Samples, p: Preprocess, batch: int = BATCH) -> list[Tensor] | list[StatementBatch]:
    """Samples as their model's teacher takes them, with statements if they have any."""
    parts = [samples.samples[i : i + batch] for i in range(0, len(samples), batch)]
    pixels = [
        torch.cat([torch.from_numpy(image.network_input(p, s.picture)) for s in part]) for part in parts
    ]
    if not all(sample.source for sample in samples.samples):
        return pixels
    return [StatementBatch(inputs, tuple(s.source for s in part)) for inputs, part in zip(pixels, parts)]
