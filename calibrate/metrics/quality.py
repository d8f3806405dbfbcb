"""Caption quality: exact match, token F1 and ROUGE-L, with intervals by cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mue_edge.calibrate.metrics.bootstrap import LEVEL, Estimate, Tally, estimate, mean_of
from mue_edge.inputs.tokens import Tokenizer

# Of a caption and a reference, in lower case.
Score = Callable[[str, str], float]


@dataclass(frozen=True)
class Quality:
    """Figures of one set of captions; `clusters` are what the intervals count."""

    samples: int
    clusters: int
    metrics: dict[str, Estimate]


def caption_texts(tokenizer: Tokenizer, ids: Sequence[Sequence[int]]) -> list[str]:
    """Captions as they are compared: decoded, stripped, lower case."""
    return [tokenizer.caption(row).lower() for row in ids]


def tallies(
    captions: Sequence[str], references: Sequence[Sequence[str]], scores: Mapping[str, Score] | None = None
) -> dict[str, Tally]:
    """Each metric (default: `SCORES`) of captions with their references, of which the best one counts."""
    return {
        name: mean_of([max(score(a, b) for b in several) for a, several in zip(captions, references, strict=True)])
        for name, score in (SCORES if scores is None else scores).items()
    }


def summary(metrics: Mapping[str, Tally], clusters: Sequence[str], level: float = LEVEL) -> Quality:
    """The figures with intervals; `clusters` names what is drawn together."""
    figures = {name: estimate(tally, clusters, level) for name, tally in metrics.items()}
    return Quality(len(clusters), len(set(clusters)), figures)


def token_f1(caption: str, reference: str) -> float:
    """Harmonic mean of precision and recall over words (as bags)."""
    a, b = caption.split(), reference.split()
    common = sum((Counter(a) & Counter(b)).values())
    return 2 * common / (len(a) + len(b)) if common else 0.0


def rouge_l(caption: str, reference: str, beta: float = 1.2) -> float:
    """F measure of the longest common subsequence of words (Lin 2004, β as in the COCO tools)."""
    a, b = caption.split(), reference.split()
    longest = [0] * (len(b) + 1)
    for word in a:
        before = longest.copy()
        for j, other in enumerate(b, start=1):
            longest[j] = before[j - 1] + 1 if word == other else max(before[j], longest[j - 1])
    common = longest[-1]
    if not common:
        return 0.0
    precision, recall = common / len(a), common / len(b)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


SCORES: dict[str, Score] = {
    "exact_match": lambda caption, reference: float(caption == reference),
    "token_f1": token_f1,
    "rouge_l": rouge_l,
}
