"""Training batches of the stickers: augmented pictures, captions, and a teacher's features."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mue_edge.apps.stickers.dataset import Stickers
from mue_edge.apps.stickers.evaluation import still
from mue_edge.calibrate.augment import (
    grounds,
    halves,
    hide,
    moves,
    normalise,
    on_ground,
    place,
    recolour,
    redraw,
    warps,
)
from mue_edge.models.ofa.objective import Batch
from mue_edge.tokens import Tokenizer

VIEWED_SHARE = 0.6  # of a batch: views that the teacher has seen; the rest moves and warps freely
HALVES_SHARE = 0.3  # of that rest: half of it another drawing of the same emoji


class StickerBatches:
    """Batches of the training split as a function of the step; each process has its own share."""

    def __init__(self, data: Stickers, tokenizer: Tokenizer, cache: Path, batch: int, seed: int) -> None:
        self.data, self.batch, self.seed = data, batch, seed
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.rows = data.rows("train")
        self.ids = {
            int(i): [tokenizer.bos, *tokenizer.encode(f" {data.records[i].caption}"), tokenizer.eos]
            for i in self.rows
        }
        self.pad = tokenizer.pad
        drawings: dict[str, list[int]] = defaultdict(list)
        for i in self.rows.tolist():
            drawings[data.records[i].emoji].append(i)
        self.drawings = {i: drawings[data.records[i].emoji] for i in self.rows.tolist()}
        size = data.pixels.shape[1]
        self.teacher = np.load(cache / f"teacher-{size}.npy", mmap_mode="r")
        self.moves = torch.from_numpy(np.load(cache / f"teacher-{size}-moves.npy"))
        self.mean, self.std = torch.from_numpy(np.load(cache / f"teacher-{size}-scale.npy")).float()

    def seed_of(self, step: int) -> int:
        """Of what is random in a step of this process."""
        return ((self.seed * 1_000_003 + step) * 64 + self.rank) * 2

    def __call__(self, step: int, *, with_teacher: bool) -> Batch:
        """The batch of a step: with a teacher, the first part in the views that it has seen."""
        together = self.batch * self.world
        per_epoch = len(self.rows) // together
        epoch, place_in = divmod(step, per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        start = place_in * together + self.rank * self.batch
        chosen = order[start : start + self.batch]
        rng = torch.Generator().manual_seed(self.seed_of(step))
        viewed = int(VIEWED_SHARE * self.batch) if with_teacher else 0
        move = moves(self.batch, rng)
        view = torch.randint(0, len(self.moves), (viewed,), generator=rng)
        move[:viewed] = self.moves[view, torch.from_numpy(chosen[:viewed])]
        features = torch.zeros(0, *self.teacher.shape[2:])
        if viewed:
            features = torch.from_numpy(self.teacher[view.numpy(), chosen[:viewed]]).float()
        side = self.data.pixels.shape[1]
        warp = warps(self.batch, side, rng)
        warp[:viewed] = 0
        placed = place(torch.from_numpy(self.data.pixels[chosen]), move, warp)
        mixed = viewed + int(HALVES_SHARE * (self.batch - viewed))
        others = [self._other(int(i), rng) for i in chosen[viewed:mixed]]
        beside = place(
            torch.from_numpy(self.data.pixels[others]), moves(len(others), rng), warp[viewed:mixed]
        )
        placed[viewed:mixed] = halves(placed[viewed:mixed], beside, rng)
        rgb = on_ground(placed, grounds(self.batch, rng))
        pixels = normalise(hide(redraw(recolour(rgb, rng), rng), rng))
        return Batch(
            pixels.contiguous(memory_format=torch.channels_last),
            self._tokens(chosen.tolist()),
            (features - self.mean) / self.std,
        )

    def _other(self, row: int, rng: torch.Generator) -> int:
        """A row of the same emoji, perhaps by another artist."""
        rows = self.drawings[row]
        return rows[int(torch.randint(0, len(rows), (), generator=rng))]

    def _tokens(self, chosen: list[int]) -> Tensor:
        longest = max(len(self.ids[i]) for i in chosen)
        return torch.tensor([self.ids[i] + [self.pad] * (longest - len(self.ids[i])) for i in chosen])

    def clean(self, count: int) -> list[Tensor]:
        """Batches of training pictures on white, unmoved: for BatchNorm's statistics."""
        order = np.random.default_rng(self.seed).permutation(self.rows)[:count]
        return [still(self.data, rows) for rows in np.array_split(order, -(-count // 128))]
