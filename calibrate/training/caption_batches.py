"""Captions as training targets, and the batch of a step as a function of the step alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mue_edge.calibrate.data import augment as vary
from mue_edge.calibrate.data.examples import Example, reference_text
from mue_edge.calibrate.data.pictures import Pictures
from mue_edge.errors import UsageError
from mue_edge.inputs.tokens import Tokenizer


@dataclass(frozen=True)
class CaptionTarget:
    """One caption of one picture: the picture's row, and the ids with bos and eos."""

    row: int
    ids: tuple[int, ...]


def targets(examples: Sequence[Example], tokenizer: Tokenizer, longest: int) -> tuple[list[CaptionTarget], list[str]]:
    """Every caption of every example, and notes for the user: how many were cut, or hold unknown pieces.

    Captions of more than `longest` tokens are cut there.
    """
    result, cut, unknown = [], 0, 0
    for row, example in enumerate(examples):
        for caption in example.captions:
            ids = tokenizer.encode(f" {reference_text(tokenizer, caption)}")
            cut += len(ids) > longest
            unknown += tokenizer.unk in ids
            result.append(CaptionTarget(row, (tokenizer.bos, *ids[:longest], tokenizer.eos)))
    notes = []
    if cut:
        notes.append(f"{cut} of {len(result)} captions were cut to {longest} tokens (--max-tokens)")
    if unknown:
        notes.append(f"{unknown} of {len(result)} captions hold pieces that the vocabulary lacks")
    return result, notes


@dataclass(frozen=True)
class Share:
    """This process's part of a step: pixels [B, 3, H, W], tokens [B, L + 1], and the whole step's words."""

    pixels: Tensor
    tokens: Tensor
    words: int


@dataclass
class CaptionBatches:
    """Batches over the processes: the same step is the same pictures, however many processes share it.

    `batch` captions a step over all processes; `augment` moves, bends, redraws and recolours pictures.
    Raises UsageError for more processes than captions."""

    pictures: Pictures
    targets: Sequence[CaptionTarget]
    batch: int
    seed: int
    pad: int
    augment: bool = False
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        self.batch = min(self.batch, len(self.targets))
        if self.batch < self.world:
            raise UsageError(f"{self.world} processes cannot share a step of {self.batch} captions")

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every caption is seen once, but for a rest that does not fill a batch."""
        return len(self.targets) // self.batch

    def generator(self, step: int, use: int) -> torch.Generator:
        """Randomness of a step for one use."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + step) * 8 + use)

    def __call__(self, step: int) -> Share:
        """This process's share of a step."""
        epoch, part = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.targets))
        whole = [self.targets[i] for i in order[part * self.batch : (part + 1) * self.batch].tolist()]
        positions = range(self.rank, self.batch, self.world)
        own = [whole[position] for position in positions]
        rows = [t.row for t in own]
        if self.augment:
            pictures = zip(self.pictures.pixels(rows), positions)
            pixels = torch.cat([self._augmented(one[None], step, at) for one, at in pictures])
        else:
            pixels = self.pictures.inputs(rows)
        return Share(pixels, self.tokens(own), sum(len(t.ids) - 1 for t in whole))

    def tokens(self, targets: Sequence[CaptionTarget]) -> Tensor:
        """[B, L + 1], padded on the right."""
        rows = [torch.tensor(t.ids) for t in targets]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad)

    def _augmented(self, picture: Tensor, step: int, at: int) -> Tensor:
        """One picture [1, H, W, 3]: its draws belong to its place in the step, whoever computes it."""
        seed = np.random.SeedSequence([self.seed, step, at]).generate_state(1, np.uint64)
        rng = torch.Generator().manual_seed(int(seed[0]))
        opaque = torch.full((*picture.shape[:3], 1), 255, dtype=torch.uint8)
        moved, bent = vary.moves(1, rng), vary.warps(1, picture.shape[1], rng)
        placed = vary.place(torch.cat([picture, opaque], 3), moved, bent)
        rgb = vary.recolour(vary.on_ground(placed, vary.grounds(1, rng)), rng)
        p = self.pictures.preprocess
        return vary.normalise(vary.hide(vary.redraw(rgb, rng), rng), p.mean, p.std)
