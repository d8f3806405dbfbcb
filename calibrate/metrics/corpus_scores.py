"""BLEU-4 and METEOR: figures of a corpus that are no means of captions, as what they add up over captions.

Counts and word matches are pycocoevalcap's; the formulas are written out for arrays, so that resampled
corpora cost nothing. Both equal the package's own figures.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from mue_edge.calibrate.metrics.bootstrap import Array, Tally
from mue_edge.errors import EnvironmentLacksError

Texts = dict[int, list[str]]
# METEOR 1.5 for English (Denkowski & Lavie 2014): α, β, γ, δ, and the weight of each kind of match
# (exact, stem, synonym, paraphrase).
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])


def bleu(references: Texts, captions: Texts) -> Tally:
    """BLEU-4 with the closest reference's length (Papineni et al. 2002), as COCO's tools take it.

    Rows: right n-grams (n = 1 … 4), n-grams, the caption's words, the reference's words.
    """
    package = importlib.import_module("pycocoevalcap.bleu.bleu_scorer")
    rows = []
    for key, texts in references.items():
        counts = package.cook_test(captions[key][0], package.cook_refs(texts))
        words = counts["testlen"]
        closest = min((abs(length - words), length) for length in counts["reflen"])[1]
        rows.append([*counts["correct"], *counts["guess"], words, closest])
    return Tally(np.asarray(rows, np.float64), _bleu)


def _bleu(sums: Array) -> Array:
    # The package's two small numbers, which keep an empty caption from dividing by zero.
    small, tiny = 1e-9, 1e-15
    right, guessed, words, closest = sums[..., :4], sums[..., 4:8], sums[..., 8], sums[..., 9]
    precision = np.prod((right + tiny) / (guessed + small), -1) ** 0.25
    ratio = (words + tiny) / (closest + small)
    score: Array = precision * np.exp(np.minimum(0, 1 - 1 / ratio))
    return score


def meteor(scorer: Any, references: Texts, captions: Texts, answers: dict[tuple[str, ...], list[str]]) -> Tally:
    """METEOR of a corpus, from the statistics that its program prints for a caption.

    Rows: words (caption, reference), function words (the same two), for each kind of match content and
    function words of caption and reference, chunks, matched words (caption, reference).
    `answers` keeps the program's: most captions are the same at several depths.
    Raises EnvironmentLacksError when the program does not answer so.
    """
    lines = []
    for key, several in references.items():
        texts = (captions[key][0], *several)
        if texts not in answers:
            answers[texts] = scorer._stat(texts[0], several).split()
        lines.append(answers[texts])
    if any(len(line) != 23 for line in lines):
        raise EnvironmentLacksError("METEOR's Java program gave no statistics; leave it out: --no-coco")
    rows = np.asarray(lines, np.float64)
    # A caption that is its reference in one piece is not fragmented at all.
    whole = (rows[:, 20] == 1) & (rows[:, 21] == rows[:, 0]) & (rows[:, 22] == rows[:, 1])
    rows[whole, 20] = 0
    return Tally(rows, _meteor)


def _meteor(sums: Array) -> Array:
    matches = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 4)
    shares = []
    for side in (0, 1):
        function = sums[..., 2 + side]
        words = _DELTA * (sums[..., side] - function) + (1 - _DELTA) * function
        right = (_DELTA * matches[..., side] + (1 - _DELTA) * matches[..., 2 + side]) @ _WEIGHTS
        shares.append(_over(right, words))
    precision, recall = shares
    mean = _over(precision * recall, _ALPHA * precision + (1 - _ALPHA) * recall)
    fragments = _over(sums[..., 20], (sums[..., 21] + sums[..., 22]) / 2)
    return mean * (1 - _GAMMA * fragments**_BETA)


def _over(part: Array, whole: Array) -> Array:
    """part / whole, and 0 where the whole is."""
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) > 0)
