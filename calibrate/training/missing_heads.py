"""Heads of every kind that a model lacks, in a copy of it, so that all rules can be tried."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mue_edge import models
from mue_edge.bundle.manifest import Preprocess
from mue_edge.calibrate.training import head_training, teachers
from mue_edge.files import atomic_folder
from mue_edge.models import heads

# A label and a number of steps → what to call after each of them.
Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


def completed(
    model: Path, out: Path, batches: Callable[[Preprocess], Sequence[Any]], progress: Progress, seed: int = 0
) -> Path:
    """The model's folder if it has heads of every kind, else `out`: a copy with those that it lacks.

    `batches`: what to fit them on, as the model's teacher takes it, by how pictures become its input. Raises
    UsageError for too few of them, and InputFileError for a model without vocabulary or prompt.
    """
    if (out / heads.FILE).is_file():
        return out
    teacher = teachers.of_folder(model)
    complete = models.training(teacher.model).heads(teacher.model)
    missing = [kind for kind in heads.KINDS if kind not in complete]
    if not missing:
        return model
    pictures = batches(models.describe(teacher.model).preprocess)
    teacher = teachers.once(teacher)
    for kind in missing:
        with progress(f"heads: {kind}", len(pictures)) as step:
            complete[kind] = head_training.train(kind, teacher, pictures, seed=seed, progress=step).tensors
    write(model, out, complete)
    return out


def write(model: Path, out: Path, kinds: heads.Heads) -> None:
    """A copy of the model's folder with these heads."""
    with atomic_folder(out, "config.json") as work:
        for file in model.iterdir():
            shutil.copyfile(file, work / file.name)
        heads.write(work, kinds)
