"""What heads for exit tests are trained from: a frozen model and what its every layer makes of batches. One
for captions and one for answers about statements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mue_edge import models
from mue_edge.bundle.manifest import Preprocess
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.training.caption_training import learner, longest_caption
from mue_edge.export.prompts import ENTAIL, read_prompt, task_of
from mue_edge.inputs import image, tokens
from mue_edge.loop.search import prompt_ids
from mue_edge.models.heads import Steps

BATCH = 16


@dataclass(frozen=True)
class Teacher:
    """A frozen model. Shapes: B samples of a batch, d the decoder's width, E encoder layers.

    steps: of a batch, the words of its answers at full decoder depth and drawn encoder depths.
    kept: of a batch, whether exiting the picture's encoder after 1, 2, … layers keeps the answer [B, E − 1].
    features: of a batch, means over the picture's tokens before the first encoder layer [B, d].
    logits: [..., V] of states [..., d]; −inf of what is no answer.
    """

    model: nn.Module
    steps: Callable[[Any, torch.Generator], Steps]
    kept: Callable[[Any], Tensor]
    features: Callable[[Any], Tensor]
    logits: Callable[[Tensor], Tensor]


def caption_teacher(model: nn.Module, prompt: Sequence[int]) -> Teacher:
    """Of a captioner; batches are pictures [B, 3, H, W]."""
    family, longest = models.training(model), longest_caption(model)

    def steps(pixels: Tensor, rng: torch.Generator) -> Steps:
        return family.steps(model, prompt, pixels, rng, longest)

    def kept(pixels: Tensor) -> Tensor:
        encoder, decoder = models.describe(model).depths
        cells = [(depth, decoder) for depth in range(1, encoder + 1)]
        captions = family.greedy_by_depth(model, prompt, pixels, cells, max_length=longest)
        full = captions[cells[-1]]
        return torch.tensor([[a == b for a, b in zip(captions[cell], full)] for cell in cells[:-1]]).T

    return Teacher(model, steps, kept, partial(family.features, model), partial(family.logits, model))


@dataclass(frozen=True)
class StatementBatch:
    """Pictures [B, 3, H, W], and the ids of the source text around a statement about each."""

    pixels: Tensor
    sources: tuple[tuple[int, ...], ...]


def answer_teacher(model: nn.Module, answers: tuple[int, ...], bos: int, fed: tuple[int, ...]) -> Teacher:
    """Of a model that judges statements; batches are StatementBatch. `answers`: ids of its answers; `fed`:
    what the decoder reads before it answers (`SearchSettings.fed`)."""
    family = models.judging(model)

    def prompts(batch: StatementBatch) -> list[tuple[int, ...]]:
        return [prompt_ids(bos, fed, ids) for ids in batch.sources]

    def steps(batch: StatementBatch, rng: torch.Generator) -> Steps:
        return family.steps(model, answers, batch.pixels, batch.sources, prompts(batch), rng)

    def kept(batch: StatementBatch) -> Tensor:
        by_depth = family.by_encoder_depth(model, answers, batch.pixels, batch.sources, prompts(batch))
        return (by_depth[:-1] == by_depth[-1]).T

    def features(batch: StatementBatch) -> Tensor:
        return models.training(model).features(model, batch.pixels)

    return Teacher(model, steps, kept, features, partial(family.logits, model, answers))


def once(teacher: Teacher) -> Teacher:
    """Goes through each batch once, for all kinds of heads: they draw the same encoder depths."""
    known: dict[int, Steps] = {}

    def steps(batch: Any, rng: torch.Generator) -> Steps:
        if id(batch) not in known:
            known[id(batch)] = teacher.steps(batch, rng)
        return known[id(batch)]

    return replace(teacher, steps=steps)


def of_folder(folder: Path) -> Teacher:
    """The teacher that a model folder is. Raises InputFileError for one that lacks vocabulary or prompt."""
    if task_of(folder) == ENTAIL:
        prompt = read_prompt(folder, ENTAIL)
        bos = tokens.load(folder / "tokenizer.json").bos
        return answer_teacher(models.load(folder), tuple(prompt.answers.values()), bos, prompt.fed)
    captioner = learner(folder, None)
    return caption_teacher(captioner.model, captioner.prompt)


def batches(samples: Samples, p: Preprocess, batch: int = BATCH) -> list[Tensor] | list[StatementBatch]:
    """Samples as their model's teacher takes them, with statements if they have any."""
    parts = [samples.samples[i : i + batch] for i in range(0, len(samples), batch)]
    pixels = [torch.cat([torch.from_numpy(image.network_input(p, s.picture)) for s in part]) for part in parts]
    if not all(sample.source for sample in samples.samples):
        return pixels
    return [StatementBatch(inputs, tuple(s.source for s in part)) for inputs, part in zip(pixels, parts)]
