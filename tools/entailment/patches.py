"""What the captioner's trunk makes of the training pictures, computed once and kept on disk.

An augmented view of each as the encoder's first layer takes it: float16 [1, N, P, d], after the projection
and its norm. Writing goes on after a kill.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mue_edge.apps.stickers.dataset import Stickers
from mue_edge.files import sha256
from mue_edge.models.ofa.model import Model
from tools.stickers.batches import Views
from tools.stickers.encoded import chunks, write


def patches(
    model: Model, weights: str, data: Stickers, pictures: int, folder: Path
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """[1, N, P, d], N the train split's rows in order, and the places of those that were computed, `pictures`
    of them or a few more; from `folder` where that was done before.

    `weights`: the hash of the model's file, which together with that of the records names what is kept.
    """
    side, count = data.pixels.shape[1], len(data.rows("train"))
    all_jobs = chunks(1, count)
    jobs = all_jobs[: -(-pictures * len(all_jobs) // count)]
    name = f"patches-{side}-{weights[:8]}-{sha256(folder / 'index.json')[:8]}-{len(jobs)}.npy"

    def seen(pixels: Tensor) -> Tensor:
        return model.encoder.embed_patches(pixels)[0]

    if not (folder / name).is_file():
        shape = (1, count, (side // 16) ** 2, model.config.encoder_dim)
        write(folder / name, seen, Views(data, model.config.preprocess), jobs, shape, "trunk")
    kept: NDArray[np.float16] = np.load(folder / name, mmap_mode="r")
    return kept, np.concatenate([places for _, places in jobs])
