"""How well every signal foretells, after each decoder layer, that the arg-max there is the last layer's.

Words of the bundled model's own captions of val_render, which it was not trained on and no certificate uses.
Heads are fitted on augmented pictures of the training split: captions are memorised there, pictures are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mue_edge import models
from mue_edge.apps.stickers.dataset import Stickers, read
from mue_edge.apps.stickers.evaluation import still
from mue_edge.calibrate.data import augment
from mue_edge.calibrate.policies.signals import area
from mue_edge.calibrate.training import head_training, teachers
from mue_edge.calibrate.training.caption_training import LONGEST, learner
from mue_edge.models.heads import Steps, of_depth
from mue_edge.models.ofa.cutting.decoder_segments import Confidence

FITTED, BATCH = 4000, 100  # pictures that heads are fitted on, and in one batch


def views(data: Stickers, count: int) -> Iterator[Tensor]:
    """Batches of training pictures, moved, recoloured, redrawn and partly hidden."""
    rng = torch.Generator().manual_seed(0)
    rows = np.random.default_rng(0).permutation(data.rows("train"))[:count]
    for part in np.array_split(rows, max(2, count // BATCH)):
        pixels = torch.from_numpy(data.pixels[part])
        moved = augment.place(pixels, augment.moves(len(part), rng), augment.warps(len(part), pixels.shape[1], rng))
        rgb = augment.recolour(augment.on_ground(moved, augment.grounds(len(part), rng)), rng)
        yield augment.normalise(augment.hide(augment.redraw(rgb, rng), rng))


def auc(sign: Tensor, same: Tensor) -> float | None:
    """Of a sign that is large where stopping is right."""
    found = area((-sign[same]).tolist(), (-sign[~same]).tolist())
    return None if found is None else round(found, 4)


@torch.no_grad()
def by_boundary(model: Any, heads: dict[str, Tensor], held: Steps) -> list[dict[str, Any]]:
    """A row a boundary."""
    rows = []
    for depth in range(1, held.states.shape[1] - 1):
        before, here, same = held.states[:, depth - 1], held.states[:, depth], held.same[:, depth - 1]
        likely = torch.softmax(model.decoder.project(here), -1)
        entropy = -(likely * torch.log(likely + 1e-12)).sum(-1)
        rows.append(
            {
                "after_layer": depth,
                "words": len(same),
                "kept": round(float(same.float().mean()), 4),
                "similarity": auc(F.cosine_similarity(before.double(), here.double(), dim=-1), same),
                "confidence": auc(Confidence(of_depth(heads, depth))(here), same),
                "entropy": auc(-entropy, same),
                "margin": auc(held.margin[:, depth - 1], same),
            }
        )
    return rows


def figures(folder: Path, fitted: int = FITTED) -> dict[str, Any]:
    """AUCs at random encoder depths of a model folder."""
    torch.manual_seed(0)
    taught, data = learner(folder, None), read()
    teacher = teachers.caption_teacher(taught.model, taught.prompt)
    heads = head_training.train("confidence", teacher, views(data, fitted)).tensors
    rng, rows = torch.Generator().manual_seed(1), data.rows("val_render")
    family, size = models.training(taught.model), models.describe(taught.model).preprocess
    parts = [
        family.steps(taught.model, taught.prompt, still(data, part, size), rng, LONGEST)
        for part in np.array_split(rows, -(-len(rows) // 35))
    ]
    held = by_boundary(taught.model, heads, Steps.joined(parts))
    return {"fitted_on": f"{fitted} pictures of train, augmented", "held": "val_render", "by_boundary": held}
