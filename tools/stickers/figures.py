"""What the evidence holds of a model: figures by split, by depth and by kind of picture, and examples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from mue_edge.apps.stickers.dataset import Record
from mue_edge.apps.stickers.evaluation import STICKER_SCORES
from mue_edge.calibrate.metrics.bootstrap import Estimate
from mue_edge.calibrate.metrics.quality import SCORES, Quality
from mue_edge.calibrate.training.depths import ByDepth, Captioned, judge
from mue_edge.models.family import Depths
from tools.stickers.splits import toned

SPLITS = ("val_render", "test_render", "test_comp", "test_vendor")
# What the project's criteria are asked on.
UNION = "test_render+test_comp"
GRIDS = ("cider_d", "exact_match")
EXAMPLES = 24


@dataclass(frozen=True)
class Found:
    """A split's pictures and their captions, in the same mixed order."""

    records: Sequence[Record]
    captioned: Sequence[Captioned]

    def __add__(self, other: Found) -> Found:
        return Found([*self.records, *other.records], [*self.captioned, *other.captioned])

    @property
    def deepest(self) -> Depths:
        return max(self.captioned[0].captions)

    def at(self, cell: Depths) -> Found:
        """Only the captions of one pair of depths."""
        some = [Captioned(c.id, c.references, c.cluster, {cell: c.captions[cell]}) for c in self.captioned]
        return Found(self.records, some)

    def wrong(self) -> list[int]:
        """Places of the pictures whose caption at full depth is not their name."""
        return [i for i, c in enumerate(self.captioned) if c.captions[self.deepest] not in c.references]


def content(splits: Mapping[str, Found]) -> dict[str, Any]:
    """Everything but where and when: `splits` are those of SPLITS."""
    every = {**splits, UNION: splits["test_render"] + splits["test_comp"]}
    grids = {name: by_depth(found) for name, found in every.items()}
    render, union = every["test_render"], grids[UNION]
    return {
        "splits": {name: full_depth(found) for name, found in every.items()},
        "layers": list(render.deepest),
        "by_depth": {name: grid(found) for name, found in grids.items()},
        "changes": {
            "split": UNION,
            "metric": main_metric(union),
            "cells": [
                {"image_depth": cell[0], "decoder_depth": cell[1]} | shown(union.change(cell, main_metric(union)))
                for cell in early(render.deepest)
            ],
        },
        "test_render_exact_match_by_set": exact_match_by(render, lambda record: record.set),
        "test_render_exact_match_by_kind": exact_match_by(render, kind),
        "test_render_examples": examples(render, range(EXAMPLES)),
        "test_render_failures": examples(render, render.wrong()[:EXAMPLES]),
    }


def early(layers: Depths) -> list[Depths]:
    """The pairs of depths whose loss is reported: halves and single layers."""
    image, decoder = layers
    half_image, half_decoder = max(1, image // 2), max(1, decoder // 2)
    pairs = [(image, half_decoder), (half_image, decoder), (image, 1), (1, decoder)]
    return list(dict.fromkeys([*pairs, (half_image, half_decoder)]))


def full_depth(found: Found) -> dict[str, Any]:
    """Samples, clusters and every metric with its interval, at full depth."""
    return figures(judge(found.at(found.deepest).captioned, scores=STICKER_SCORES).quality(found.deepest))


def by_depth(found: Found, metrics: Collection[str] = GRIDS) -> ByDepth:
    """The metrics that grids and changes show."""
    scores = {name: SCORES[name] for name in metrics if name in SCORES}
    return judge(found.captioned, scores=scores, coco=[name for name in metrics if name not in SCORES])


def main_metric(found: ByDepth) -> str:
    return next(name for name in GRIDS if name in found.metrics[found.deepest])


def grid(found: ByDepth) -> list[dict[str, Any]]:
    """One entry a pair of depths, its metrics without intervals."""
    return [
        {"image_depth": cell[0], "decoder_depth": cell[1]}
        | {name: round(tally.total(), 4) for name, tally in metrics.items()}
        for cell, metrics in found.metrics.items()
    ]


def figures(quality: Quality) -> dict[str, Any]:
    metrics = {name: shown(estimate) for name, estimate in quality.metrics.items()}
    return {"samples": quality.samples, "clusters": quality.clusters} | metrics


def shown(estimate: Estimate) -> dict[str, float | None]:
    """Rounded, and null where unknown: JSON knows no NaN."""
    return {key: round(value, 4) if isfinite(value) else None for key, value in vars(estimate).items()}


def examples(found: Found, places: Sequence[int]) -> list[list[str]]:
    """[picture, name, caption at full depth]."""
    return [
        [c.id, c.references[0], c.captions[found.deepest]]
        for c in (found.captioned[i] for i in places if i < len(found.captioned))
    ]


def kind(record: Record) -> str:
    """What a picture shows: a person in a skin tone, a flag, or anything else."""
    if toned(record.emoji):
        return "person with a skin tone"
    return "flag" if record.caption.startswith("flag: ") else "anything else"


def exact_match_by(found: Found, group: Callable[[Record], str]) -> dict[str, float]:
    """Exact match at full depth within each group of pictures."""
    wrong = set(found.wrong())
    right: dict[str, list[bool]] = {}
    for i, record in enumerate(found.records):
        right.setdefault(group(record), []).append(i not in wrong)
    return {name: round(sum(values) / len(values), 4) for name, values in sorted(right.items())}
