"""Caption quality by encoder depth and decoder depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from mue_edge.calibrate.caption_batches import as_spoken
from mue_edge.calibrate.caption_training import Learner
from mue_edge.calibrate.coco_metrics import measure as coco_measure
from mue_edge.calibrate.examples import Example
from mue_edge.calibrate.pictures import Pictures, as_input
from mue_edge.calibrate.quality import Estimate, Quality, caption_texts, clustered_mean, measure_any
from mue_edge.errors import UsageError
from mue_edge.models import captioning

# Layers of the picture's encoder, and of the decoder.
Depths = tuple[int, int]
# Passes a sequence on, showing how far it is.
Progress = Callable[[Sequence[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Captioned:
    """A picture's id, what people call it (as the model would write it), what counts as one draw with it,
    and its caption by depths."""

    id: str
    references: tuple[str, ...]
    cluster: str
    captions: Mapping[Depths, str]


@dataclass(frozen=True)
class ByDepth:
    """Quality by depths; `words`: how texts were cut for COCO's metrics; notes name what was left out."""

    cells: Mapping[Depths, Quality]
    words: str
    notes: tuple[str, ...]


def parse(texts: Sequence[str], layers: Depths) -> list[Depths]:
    """Depths of `all`, or of `K,L` (encoder, decoder) where either may be `all`, each pair once.

    Raises UsageError for anything else, and for layers that the model does not have.
    """
    found: dict[Depths, None] = {}
    for text in texts:
        parts = ["all", "all"] if text == "all" else text.split(",")
        if len(parts) != 2:
            raise UsageError(f"--depths {text!r} is neither all nor K,L (encoder layers, decoder layers)")
        choices = []
        for part, most in zip(parts, layers):
            if part != "all" and not (part.isdecimal() and 1 <= int(part) <= most):
                raise UsageError(f"--depths {text!r}: the model has 1 to {layers[0]},{layers[1]} layers")
            choices.append(list(range(1, most + 1)) if part == "all" else [int(part)])
        found |= dict.fromkeys(product(choices[0], choices[1]))
    return list(found)


def mixed(examples: Sequence[Example], limit: int | None) -> list[Example]:
    """The first `limit` in an order that mixes them, the same every time."""
    order = np.random.default_rng(0).permutation(len(examples))[:limit]
    return [examples[i] for i in order.tolist()]


def caption(
    learner: Learner, pictures: Pictures, depths: Sequence[Depths], *,
    batch: int = 32, progress: Progress = iter,
) -> list[Captioned]:  # fmt: skip
    """Greedy captions of the pictures at each depth."""
    longest = min(24, captioning.longest_caption(learner.model))
    found: dict[Depths, list[str]] = {cell: [] for cell in depths}
    for start in progress(range(0, len(pictures), batch)):
        pixels = as_input(pictures.pixels(range(start, min(start + batch, len(pictures)))))
        for image_depth, decoder_depth in depths:
            ids = captioning.greedy(
                learner.model, learner.prompt, pixels,
                max_length=longest, image_depth=image_depth, decoder_depth=decoder_depth,
            )  # fmt: skip
            found[image_depth, decoder_depth] += caption_texts(learner.tokenizer, ids)
    return [
        Captioned(
            example.id,
            tuple(as_spoken(learner.tokenizer, text) for text in example.captions),
            example.id,
            {cell: found[cell][i] for cell in depths},
        )
        for i, example in enumerate(pictures.examples)
    ]


def judge(captioned: Sequence[Captioned]) -> dict[Depths, Quality]:
    """Exact match, token F1 and ROUGE-L by depths."""
    clusters, references = [c.cluster for c in captioned], [c.references for c in captioned]
    return {
        cell: measure_any([c.captions[cell] for c in captioned], references, clusters)
        for cell in captioned[0].captions
    }


def with_coco(captioned: Sequence[Captioned], cells: Mapping[Depths, Quality]) -> ByDepth:
    """`cells` with COCO's metrics added where they can be measured; BLEU has no standard error."""
    sets = {cell: [c.captions[cell] for c in captioned] for cell in cells}
    clusters = [c.cluster for c in captioned]
    found = coco_measure(sets, [c.references for c in captioned])
    more = {}
    for cell, quality in cells.items():
        metrics = dict(quality.metrics)
        for name, score in found.scores[cell].items():
            error = math.nan if score.each is None else clustered_mean(score.each, clusters).standard_error
            metrics[name] = Estimate(score.value, error)
        more[cell] = replace(quality, metrics=metrics)
    return ByDepth(more, found.words, found.notes)
