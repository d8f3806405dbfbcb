"""CIDEr-D of one caption with frozen document frequencies. Standard library only.

Vedantam, Zitnick and Parikh 2015, in the form of the COCO tools: n-grams of 1 to 4 words weighted by
tf · idf, clipped cosine against each reference, a Gaussian penalty (σ = 6) on the difference in length,
mean over n and references, times 10. The COCO tools take the idf from the set that is evaluated, so a
score depends on the other pictures; here it is frozen, so that scores of pictures are independent draws.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mue_edge.errors import InputFileError, UsageError

LONGEST, SIGMA, TOP = 4, 6.0, 10.0
_EDGES = ".?!,:;\"'`"
_ALONE = frozenset(("-", "--"))
_SCHEMA = 1


@dataclass(frozen=True)
class Frequencies:
    """In how many of `documents` pictures some reference holds an n-gram (words joined by a space).

    idf = log(documents / max(1, count)), as in the COCO tools: what was never seen counts as seen once.
    """

    documents: int
    counts: Mapping[str, int]

    def __post_init__(self) -> None:
        if self.documents < 2:
            raise InputFileError("document frequencies need the references of 2 pictures or more")

    def fingerprint(self) -> str:
        """Hash of all counts: names the idf that scores belong to."""
        data = {"schema": _SCHEMA, "documents": self.documents, "counts": self.counts}
        text = json.dumps(data, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def idf(self, ngram: str) -> float:
        """Weight of one occurrence, ≥ 0."""
        return math.log(self.documents / self.counts.get(ngram, 1))


@dataclass(frozen=True)
class _Vector:
    """tf · idf and its norm for each n, and the length in words."""

    weights: tuple[Mapping[str, float], ...]
    norms: tuple[float, ...]
    length: int


def words(text: str) -> list[str]:
    """Lower case, cut at spaces, punctuation taken off the ends (`coco_metrics` without Java)."""
    stripped = (word.strip(_EDGES) for word in text.lower().split())
    return [word for word in stripped if word and word not in _ALONE]


def frequencies(references: Iterable[Sequence[str]]) -> Frequencies:
    """Document frequencies of the reference captions of each picture."""
    counts, documents = Counter[str](), 0
    for several in references:
        documents += 1
        counts.update({ngram for text in several for ngram in _ngrams(words(text))})
    return Frequencies(documents, counts)


class Scorer:
    """CIDEr-D of many sets of captions of the same pictures; what was scored once is remembered."""

    def __init__(self, references: Sequence[Sequence[str]], frequencies: Frequencies) -> None:
        if not all(references):
            raise UsageError("every picture needs a reference caption; without any, certify consistency")
        self._frequencies = frequencies
        self._references = [[_vector(words(text), frequencies) for text in several] for several in references]
        self._scores: dict[tuple[int, str], float] = {}

    def __call__(self, captions: Sequence[str]) -> list[float]:
        """The score 0 … 10 of each picture's caption."""
        if len(captions) != len(self._references):
            raise UsageError(f"{len(captions)} captions for the references of {len(self._references)}")
        return [self._score(i, caption) for i, caption in enumerate(captions)]

    def _score(self, i: int, caption: str) -> float:
        if (i, caption) not in self._scores:
            vector = _vector(words(caption), self._frequencies)
            each = [_similarity(vector, reference) for reference in self._references[i]]
            self._scores[i, caption] = min(TOP, TOP * sum(each) / len(each))
        return self._scores[i, caption]


def _ngrams(text: Sequence[str]) -> list[str]:
    return [" ".join(text[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(text) - n + 1)]


def _vector(text: Sequence[str], frequencies: Frequencies) -> _Vector:
    weights: tuple[dict[str, float], ...] = tuple({} for _ in range(LONGEST))
    for ngram, count in Counter(_ngrams(text)).items():
        weights[ngram.count(" ")][ngram] = count * frequencies.idf(ngram)
    norms = tuple(math.sqrt(sum(w * w for w in part.values())) for part in weights)
    return _Vector(weights, norms, len(text))


def _similarity(a: _Vector, b: _Vector) -> float:
    """Mean over n of the cosine, of which `a` may gain by no n-gram more than `b` holds."""
    total = 0.0
    for mine, other, mine_norm, other_norm in zip(a.weights, b.weights, a.norms, b.norms):
        if mine_norm and other_norm:
            common = sum(min(w, other[ngram]) * other[ngram] for ngram, w in mine.items() if ngram in other)
            total += common / (mine_norm * other_norm)
    return total / LONGEST * math.exp(-((a.length - b.length) ** 2) / (2 * SIGMA**2))
