"""Heads of every kind that a model lacks, in a copy of it, so that all rules can be tried."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor

from mue_edge import image
from mue_edge.calibrate.caption_training import learner
from mue_edge.calibrate.samples import Samples
from mue_edge.calibrate.trainers import TRAINERS
from mue_edge.files import atomic_folder
from mue_edge.models import captioning, heads

BATCH = 16

# A label and a number of steps → what to call after each of them.
Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


def completed(
    model: Path, out: Path, batches: Callable[[int], Sequence[Tensor]], progress: Progress, *, seed: int = 0
) -> Path:
    """The model's folder if it has heads of every kind, else `out`: a copy with those that it lacks.

    `batches`: pictures [B, 3, H, W] of a side to fit them on. Raises UsageError for too few of them, and
    InputFileError for a model that does not caption.
    """
    if (out / heads.FILE).is_file():
        return out
    found = captioning.heads(learner(model, None).model)
    missing = [kind for kind in TRAINERS if kind not in found]
    if not missing:
        return model
    for kind in missing:
        pupil = learner(model, None)  # afresh: a trainer may change what can be trained
        shown = batches(captioning.image_size(pupil.model))
        with progress(f"heads: {kind}", len(shown)) as step:
            made = TRAINERS[kind](pupil.model, pupil.prompt, shown, seed=seed, progress=step)
        found[kind] = made.tensors
    with atomic_folder(out, "config.json") as work:
        for file in model.iterdir():
            shutil.copyfile(file, work / file.name)
        heads.write(work, found)
    return out


def of_samples(samples: Samples, side: int) -> list[Tensor]:
    """Their pictures in batches."""
    parts = [samples.samples[i : i + BATCH] for i in range(0, len(samples), BATCH)]
    return [
        torch.cat([torch.from_numpy(image.preprocess(image.load(s.picture), side, side)) for s in part])
        for part in parts
    ]
