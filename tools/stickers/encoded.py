"""What the decoder reads of the training pictures, computed once with a model's encoder and kept on disk.

A few augmented views of every training picture pass through the whole encoder, float16 [V, N, P, d] after
its final norm; the prompt's states are the same for every picture. Writing goes on after a kill.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mue_edge.apps.stickers.dataset import Stickers
from mue_edge.calibrate.data.augment import moves
from mue_edge.files import atomic_write, sha256
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.network.outputs import EncoderOutput
from tools.stickers.batches import Rows, Views
from tools.stickers.objective import encode

_CHUNK = 64  # pictures that are encoded together
_NOTED = 20  # chunks between two notes of how far it is


@dataclass(frozen=True)
class Encoded:
    """Pictures' states [V, N, P, d] float16 (memory-mapped), N the train split's rows in order; the prompt's
    states [T, d]; normalised position vectors [1, P + T, d]."""

    pictures: NDArray[np.float16]
    prompt: Tensor
    positions: Tensor

    def output(self, view: NDArray[np.int64], place: NDArray[np.int64]) -> EncoderOutput:
        """The decoder's input of one view [B] each of the pictures at `place` [B]."""
        pictures = torch.from_numpy(self.pictures[view, place]).float()
        hidden = torch.cat([pictures, self.prompt.expand(len(pictures), -1, -1)], 1)
        return EncoderOutput(hidden, (), torch.zeros(hidden.shape[:2], dtype=torch.bool), self.positions)


def encoded(model: Model, weights: str, prompt: list[int], data: Stickers, views: int, folder: Path) -> Encoded:
    """The training pictures as `model` sees them, from `folder` where they have been computed before.

    `weights`: the hash of the model's file; it and that of the folder's records name what is kept.
    """
    words, layers = torch.tensor([prompt]), model.config.encoder_layers
    depths = (layers, layers)
    with torch.inference_mode():
        side = data.pixels.shape[1]
        blank, _ = encode(model, words, torch.zeros(1, 3, side, side), depths)
    patches = blank.hidden.shape[1] - len(prompt)
    made_of = f"{weights[:8]}-{sha256(folder / 'index.json')[:8]}"
    path = folder / f"encoded-{side}-{made_of}-{views}.npy"

    def seen(pixels: Tensor) -> Tensor:
        states, _ = encode(model, words, pixels, depths)
        return states.hidden[:, :patches]

    if not path.is_file():
        count = len(data.rows("train"))
        shape = (views, count, patches, blank.hidden.shape[2])
        write(path, seen, Views(data, model.config.preprocess), chunks(views, count), shape, "encoder")
    # Out of inference mode: the decoder's gradients pass through products with these.
    return Encoded(np.load(path, mmap_mode="r"), blank.hidden[0, patches:].clone(), blank.positions.clone())


Chunk = tuple[int, NDArray[np.int64]]  # a view's number, and places of pictures


def chunks(views: int, pictures: int) -> list[Chunk]:
    """In which parts, and in which order, the views of so many pictures are computed."""
    return [
        (view, places)
        for view in range(views)
        for places in np.array_split(np.random.default_rng(view).permutation(pictures), -(-pictures // _CHUNK))
    ]


def write(
    path: Path,
    seen: Callable[[Tensor], Tensor],
    see: Views,
    jobs: Sequence[Chunk],
    shape: tuple[int, int, int, int],
    label: str,
) -> None:
    """What a network makes of pixels [B, 3, H, W], for augmented views of the training pictures: `shape`
    [V, N, P, d]. Every chunk's pictures and changes follow from its number, so that a kill changes nothing.
    """
    partial, noted = path.with_suffix(".partial"), path.with_suffix(".json")
    done = int(json.loads(noted.read_text(encoding="utf-8"))) if noted.is_file() and partial.is_file() else 0
    kind: dict[str, Any] = {"mode": "r+"} if done else {"mode": "w+", "dtype": np.float16, "shape": shape}
    out = np.lib.format.open_memmap(partial, **kind)  # type: ignore[no-untyped-call]
    rows = see.data.rows("train")
    with click.progressbar(length=len(jobs), label=label, file=sys.stderr) as bar, torch.inference_mode():
        bar.update(done)
        for number in range(done, len(jobs)):
            view, places = jobs[number]
            rng = torch.Generator().manual_seed(number)
            pixels = see(rows[places], moves(len(places), rng), rng)
            out[view, places] = seen(pixels).half().numpy()
            bar.update(1)
            if (number + 1) % _NOTED == 0:
                out.flush()
                atomic_write(noted, f"{number + 1}\n")
    out.flush()
    del out
    partial.replace(path)
    noted.unlink(missing_ok=True)


class EncodedBatches:
    """Encoder output and captions as a function of the step: rows and their order as in `StickerBatches`."""

    def __init__(self, kept: Encoded, data: Stickers, tokenizer: Tokenizer, batch: int, seed: int) -> None:
        self.kept, self.rows = kept, Rows(data, tokenizer, batch, seed)
        self.places = {int(row): place for place, row in enumerate(self.rows.all)}

    def __call__(self, step: int) -> tuple[EncoderOutput, Tensor]:
        """The decoder's input, a view of each picture drawn at random, and tokens [B, L + 1]."""
        chosen = self.rows.chosen(step)
        rng = np.random.default_rng(self.rows.seed_of(step))
        view = rng.integers(0, len(self.kept.pictures), len(chosen))
        places = np.array([self.places[i] for i in chosen.tolist()])
        return self.kept.output(view, places), self.rows.tokens(chosen)
