"""Caption quality by encoder depth and decoder depth."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from torch import Tensor

from mue_edge import models
from mue_edge.calibrate.data.examples import Example, reference_text
from mue_edge.calibrate.data.pictures import Pictures
from mue_edge.calibrate.metrics.bootstrap import LEVEL, Estimate, Tally, relative_change
from mue_edge.calibrate.metrics.coco_metrics import METRICS
from mue_edge.calibrate.metrics.coco_metrics import measure as coco_measure
from mue_edge.calibrate.metrics.quality import Quality, Score, caption_texts, summary, tallies
from mue_edge.calibrate.training.caption_training import Learner, longest_caption
from mue_edge.errors import UsageError
from mue_edge.models.family import Depths

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
    """Metrics by depths; `clusters`: of each picture; `words`: how texts were cut for COCO's metrics; notes
    name what was left out."""

    clusters: tuple[str, ...]
    metrics: Mapping[Depths, Mapping[str, Tally]]
    words: str
    notes: tuple[str, ...]

    @property
    def deepest(self) -> Depths:
        return max(self.metrics)

    def quality(self, cell: Depths, level: float = LEVEL) -> Quality:
        """All figures at one pair of depths."""
        return summary(self.metrics[cell], self.clusters, level)

    def change(self, cell: Depths, metric: str, level: float = LEVEL) -> Estimate:
        """The metric at `cell` over that at the deepest pair, − 1."""
        at, base = self.metrics[cell][metric], self.metrics[self.deepest][metric]
        return relative_change(at, base, self.clusters, level)


def parse(texts: Sequence[str], layers: Depths) -> list[Depths]:
    """Depths of `all`, or of `K,L` (encoder, decoder) where either may be `all`, each pair once.

    Raises UsageError for anything else, and for layers that the model does not have.
    """
    depths: dict[Depths, None] = {}
    for text in texts:
        parts = ["all", "all"] if text == "all" else text.split(",")
        if len(parts) != 2:
            raise UsageError(f"--depths {text!r} is neither all nor K,L (encoder layers, decoder layers)")
        choices = []
        for part, most in zip(parts, layers):
            if part != "all" and not (part.isdecimal() and 1 <= int(part) <= most):
                raise UsageError(f"--depths {text!r}: the model has 1 to {layers[0]},{layers[1]} layers")
            choices.append(list(range(1, most + 1)) if part == "all" else [int(part)])
        depths |= dict.fromkeys(product(choices[0], choices[1]))
    return list(depths)


def mixed(examples: Sequence[Example], limit: int | None) -> list[Example]:
    """The first `limit` in an order that mixes them, the same every time."""
    order = np.random.default_rng(0).permutation(len(examples))[:limit]
    return [examples[i] for i in order.tolist()]


def texts_by_depth(learner: Learner, batches: Iterable[Tensor], depths: Sequence[Depths]) -> dict[Depths, list[str]]:
    """Greedy captions of batches of pictures [B, 3, H, W] at each depth."""
    family, longest = models.training(learner.model), longest_caption(learner.model)
    texts: dict[Depths, list[str]] = {cell: [] for cell in depths}
    for pixels in batches:
        ids = family.greedy_by_depth(learner.model, learner.prompt, pixels, depths, max_length=longest)
        for cell, rows in ids.items():
            texts[cell] += caption_texts(learner.tokenizer, rows)
    return texts


def caption(
    learner: Learner, pictures: Pictures, depths: Sequence[Depths], batch: int = 32, progress: Progress = iter
) -> list[Captioned]:
    """Greedy captions of the pictures at each depth; every picture counts as one draw."""
    starts = progress(range(0, len(pictures), batch))
    inputs = (pictures.inputs(range(start, min(start + batch, len(pictures)))) for start in starts)
    texts = texts_by_depth(learner, inputs, depths)
    captioned = []
    for i, example in enumerate(pictures.examples):
        references = tuple(reference_text(learner.tokenizer, text) for text in example.captions)
        captions = {cell: texts[cell][i] for cell in depths}
        captioned.append(Captioned(example.id, references, example.id, captions))
    return captioned


def judge(
    captioned: Sequence[Captioned], scores: Mapping[str, Score] | None = None, coco: Collection[str] = METRICS
) -> ByDepth:
    """The scores (default: exact match, token F1, ROUGE-L), and COCO's metrics that can be measured here."""
    references = [c.references for c in captioned]
    sets = {cell: [c.captions[cell] for c in captioned] for cell in captioned[0].captions}
    metrics = {cell: tallies(texts, references, scores) for cell, texts in sets.items()}
    clusters = tuple(c.cluster for c in captioned)
    if not coco:
        return ByDepth(clusters, metrics, "spaces", ())
    more = coco_measure(sets, references, coco)
    metrics = {cell: metrics[cell] | dict(more.scores[cell]) for cell in sets}
    return ByDepth(clusters, metrics, more.words, more.notes)
