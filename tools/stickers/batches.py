"""Training batches of the stickers: augmented pictures, captions, and a teacher's features."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mue_edge.apps.stickers.dataset import Stickers
from mue_edge.apps.stickers.evaluation import still
from mue_edge.bundle.manifest import Preprocess
from mue_edge.calibrate.data.augment import grounds, hide, moves, normalise, on_ground, place, recolour, redraw, warps
from mue_edge.inputs.tokens import Tokenizer
from tools.stickers.objective import Batch

VIEWED_SHARE = 0.6  # of a batch: views that the teacher has seen; the rest moves and warps freely
HALVES_SHARE = 0.3  # of that rest: half of it another drawing of the same emoji


def halves(one: Tensor, other: Tensor, rng: torch.Generator) -> Tensor:
    """[B, C, H, W] twice → one picture on one side of a random line near the middle, the other beyond it."""
    n, _, height, width = one.shape
    turn = 2 * torch.pi * torch.rand(n, 1, 1, generator=rng)
    offset = 0.5 * (torch.rand(n, 1, 1, generator=rng) * 2 - 1)
    rows, columns = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
    beyond = rows * turn.sin() + columns * turn.cos() > offset
    return torch.where(beyond[:, None], other, one)


class Rows:
    """Which pictures of the training split a step has, each process its own share, and their captions."""

    def __init__(self, data: Stickers, tokenizer: Tokenizer, batch: int, seed: int) -> None:
        self.batch, self.seed, self.pad = batch, seed, tokenizer.pad
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.all = data.rows("train")
        self.ids = {
            int(i): [tokenizer.bos, *tokenizer.encode(f" {data.records[i].caption}"), tokenizer.eos] for i in self.all
        }

    def seed_of(self, step: int) -> int:
        """Of what is random in a step of this process."""
        return ((self.seed * 1_000_003 + step) * 64 + self.rank) * 2

    def chosen(self, step: int) -> NDArray[np.int64]:
        """The rows of a step; every epoch has an order of its own."""
        together = self.batch * self.world
        epoch, place_in = divmod(step, len(self.all) // together)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.all)
        start = place_in * together + self.rank * self.batch
        return order[start : start + self.batch]

    def tokens(self, chosen: NDArray[np.int64]) -> Tensor:
        """Captions [B, L + 1] of rows: bos … eos, right padding."""
        ids = [self.ids[i] for i in chosen.tolist()]
        longest = max(map(len, ids))
        return torch.tensor([row + [self.pad] * (longest - len(row)) for row in ids])


class Views:
    """Augmented views of training pictures, as a model takes them."""

    def __init__(self, data: Stickers, preprocess: Preprocess) -> None:
        self.data, self.preprocess = data, preprocess
        drawings: dict[str, list[int]] = defaultdict(list)
        rows = data.rows("train").tolist()
        for i in rows:
            drawings[data.records[i].emoji].append(i)
        self.drawings = {i: drawings[data.records[i].emoji] for i in rows}

    def __call__(self, chosen: NDArray[np.int64], move: Tensor, rng: torch.Generator, *, whole: int = 0) -> Tensor:
        """Pixels [B, 3, H, W] of rows under moves [B, 2, 3].

        The first `whole` are not warped; of the rest, some are half of another drawing of the same emoji.
        """
        count, side = len(chosen), self.data.pixels.shape[1]
        warp = warps(count, side, rng)
        warp[:whole] = 0
        placed = place(torch.from_numpy(self.data.pixels[chosen]), move, warp)
        mixed = whole + int(HALVES_SHARE * (count - whole))
        others = [self._other(int(i), rng) for i in chosen[whole:mixed]]
        beside = place(torch.from_numpy(self.data.pixels[others]), moves(len(others), rng), warp[whole:mixed])
        placed[whole:mixed] = halves(placed[whole:mixed], beside, rng)
        rgb = on_ground(placed, grounds(count, rng))
        seen = hide(redraw(recolour(rgb, rng), rng), rng)
        pixels = normalise(seen, self.preprocess.mean, self.preprocess.std)
        return pixels.contiguous(memory_format=torch.channels_last)

    def _other(self, row: int, rng: torch.Generator) -> int:
        """A row of the same emoji, perhaps by another artist."""
        rows = self.drawings[row]
        return rows[int(torch.randint(0, len(rows), (), generator=rng))]


class StickerBatches:
    """Batches of the training split as a function of the step; each process has its own share."""

    def __init__(self, data: Stickers, tokenizer: Tokenizer, cache: Path, batch: int, seed: int, p: Preprocess) -> None:
        self.data, self.rows, self.views = data, Rows(data, tokenizer, batch, seed), Views(data, p)
        size = data.pixels.shape[1]
        self.teacher = np.load(cache / f"teacher-{size}.npy", mmap_mode="r")
        self.moves = torch.from_numpy(np.load(cache / f"teacher-{size}-moves.npy"))
        self.mean, self.std = torch.from_numpy(np.load(cache / f"teacher-{size}-scale.npy")).float()

    def __call__(self, step: int, *, with_teacher: bool) -> Batch:
        """The batch of a step: with a teacher, the first part in the views that it has seen."""
        chosen = self.rows.chosen(step)
        rng = torch.Generator().manual_seed(self.rows.seed_of(step))
        viewed = int(VIEWED_SHARE * len(chosen)) if with_teacher else 0
        move = moves(len(chosen), rng)
        view = torch.randint(0, len(self.moves), (viewed,), generator=rng)
        move[:viewed] = self.moves[view, torch.from_numpy(chosen[:viewed])]
        features = torch.zeros(0, *self.teacher.shape[2:])
        if viewed:
            features = torch.from_numpy(self.teacher[view.numpy(), chosen[:viewed]]).float()
        pixels = self.views(chosen, move, rng, whole=viewed)
        return Batch(pixels, self.rows.tokens(chosen), (features - self.mean) / self.std)

    def clean(self, count: int) -> list[Tensor]:
        """Batches of training pictures on white, unmoved: for BatchNorm's statistics."""
        order = np.random.default_rng(self.rows.seed).permutation(self.rows.all)[:count]
        return [still(self.data, rows, self.views.preprocess) for rows in np.array_split(order, -(-count // 128))]
