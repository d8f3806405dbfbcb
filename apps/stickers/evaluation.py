"""Measures a model folder on a split of the stickers."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mue_edge import models, tokens
from mue_edge.apps.stickers.dataset import Stickers, read
from mue_edge.apps.stickers.recipe import Record
from mue_edge.calibrate.augment import normalise, on_ground, place
from mue_edge.calibrate.quality import Quality, caption_texts, clustered_mean, measure
from mue_edge.errors import InputFileError
from mue_edge.models.ofa.greedy import greedy

_TONE = re.compile(r"(, |: )?(?:medium-light|medium-dark|light|medium|dark) skin tone")


@dataclass(frozen=True)
class Evaluation:
    """Figures of one split, and every picture's record with its caption."""

    quality: Quality
    captions: tuple[tuple[Record, str], ...]


def without_tone(caption: str) -> str:
    """A caption with its skin tones taken out: "woman: light skin tone, beard" → "woman: beard"."""
    bare = _TONE.sub(lambda m: "\0" if m.group(1) == ": " else "", caption)
    return re.sub("\0(, )?", lambda m: ": " if m.group(1) else "", bare).strip()


def still(data: Stickers, rows: NDArray[np.int64]) -> Tensor:
    """Pictures on white as the model sees them: [B, 3, H, W] in −1 … 1."""
    return normalise(on_ground(place(torch.from_numpy(data.pixels[rows]), None)))


def evaluate(
    folder: Path, split: str, *, cache: Path | None = None, limit: int | None = None,
    image_depth: int | None = None, decoder_depth: int | None = None, batch: int = 64,
) -> Evaluation:  # fmt: skip
    """Greedy captions of a split (its first `limit` pictures in an order that mixes the sets).

    Raises InputFileError when the recipe has not been run or the model takes another picture size.
    """
    data = read(cache)
    model = models.load(folder)
    size = data.pixels.shape[1]
    if model.config.image_size != size:
        raise InputFileError(
            f"{folder} takes pictures of {model.config.image_size} pixels, the stickers have {size}; "
            f"make them with: python -m mue_edge.apps.stickers.recipe --size {model.config.image_size}"
        )
    tokenizer = tokens.load(folder / "tokenizer.json")
    prompt = tokens.read_json(folder / "prompts.json")["caption"]["ids"]
    rows = np.random.default_rng(0).permutation(data.rows(split))[:limit]
    captions: list[str] = []
    chunks = np.array_split(rows, -(-len(rows) // batch))
    with click.progressbar(chunks, label=split, file=sys.stderr) as bar:
        for chunk in bar:
            ids = greedy(
                model, prompt, still(data, chunk), image_depth=image_depth, decoder_depth=decoder_depth
            )
            captions += caption_texts(tokenizer, ids)
    records = [data.records[i] for i in rows]
    quality = judge(captions, records)
    return Evaluation(quality, tuple(zip(records, captions, strict=True)))


def judge(captions: list[str], records: list[Record]) -> Quality:
    """The general figures, and exact match that forgives the skin tone; clusters are emoji."""
    references, clusters = [r.caption for r in records], [r.emoji for r in records]
    quality = measure(captions, references, clusters)
    right = [float(without_tone(a) == without_tone(b)) for a, b in zip(captions, references, strict=True)]
    metrics = quality.metrics | {"exact_match_but_tone": clustered_mean(right, clusters)}
    return Quality(quality.samples, quality.clusters, metrics)
