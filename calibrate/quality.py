"""Caption quality: exact match, token F1 and ROUGE-L, with standard errors by cluster."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mue_edge.tokens import Tokenizer


@dataclass(frozen=True)
class Estimate:
    """A mean over samples and its standard error, samples of one cluster counted as one draw."""

    mean: float
    standard_error: float


@dataclass(frozen=True)
class Quality:
    """Figures of one set of captions; `clusters` are what the standard errors count."""

    samples: int
    clusters: int
    metrics: dict[str, Estimate]


def caption_texts(tokenizer: Tokenizer, ids: Sequence[Sequence[int]]) -> list[str]:
    """Captions as they are compared: decoded, stripped, lower case."""
    return [tokenizer.caption(row).lower() for row in ids]


def measure(captions: Sequence[str], references: Sequence[str], clusters: Sequence[str]) -> Quality:
    """Compare each caption with its reference (lower case); `clusters` names what is drawn together."""
    return measure_any(captions, [(reference,) for reference in references], clusters)


def measure_any(
    captions: Sequence[str], references: Sequence[Sequence[str]], clusters: Sequence[str]
) -> Quality:
    """`measure` with several references a caption, of which the best one counts."""
    metrics = {}
    for name, score in _SCORES.items():
        each = [max(score(a, b) for b in several) for a, several in zip(captions, references, strict=True)]
        metrics[name] = clustered_mean(each, clusters)
    return Quality(len(captions), len(set(clusters)), metrics)


def clustered_mean(values: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """Mean over samples; standard error by linearisation of the ratio (sum over clusters / samples).

    sqrt(C/(C−1) · Σ_c (Σ_{i∈c} (x_i − mean))²) / n, C clusters, n samples (Cochran 1977, ratio estimator).
    """
    n = len(values)
    mean = sum(values) / n
    residuals: dict[str, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        residuals[cluster] += value - mean
    count = len(residuals)
    if count < 2:
        return Estimate(mean, math.nan)
    spread = sum(r * r for r in residuals.values()) * count / (count - 1)
    return Estimate(mean, math.sqrt(spread) / n)


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
        diagonal = 0
        for j, other in enumerate(b, start=1):
            diagonal, longest[j] = (
                longest[j],
                diagonal + 1 if word == other else max(longest[j], longest[j - 1]),
            )
    common = longest[-1]
    if not common:
        return 0.0
    precision, recall = common / len(a), common / len(b)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def _exact(caption: str, reference: str) -> float:
    return float(caption == reference)


_SCORES: dict[str, Callable[[str, str], float]] = {
    "exact_match": _exact,
    "token_f1": token_f1,
    "rouge_l": rouge_l,
}
