"""How every rival writes a caption: the bundle's search, over logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mue_edge.arrays import Floats
from mue_edge.loop.search import BeamSearch, Row, SearchSettings, banned_tokens


class RivalEngine(Protocol):
    """A model that runs whole; settings: in words, what it was set to."""

    settings: str

    def stem(self, pixels: Floats) -> object:
        """The stem alone, of pixels [1, 3, H, W]."""

    def encode(self, pixels: Floats) -> None:
        """Begin a caption."""

    def step(self, ids: Sequence[int], parents: Sequence[int]) -> Floats:
        """Logits [B, V], the caller's own, after the next words of all rows; parents: the row that each
        descends from."""


def caption(engine: RivalEngine, pixels: Floats, settings: SearchSettings) -> tuple[int, ...]:
    """The ids of the best caption, as `Hypothesis.tokens`."""
    engine.encode(pixels)
    return _greedy(engine, settings) if settings.beam == 1 else _beams(engine, settings)


def _greedy(engine: RivalEngine, s: SearchSettings) -> tuple[int, ...]:
    """A beam of one needs no probabilities: the best word of those that are allowed."""
    tokens = [s.bos]
    for step in range(s.max_length + 1):
        logits = engine.step(tokens[-1:], (0,))[0]
        logits[[s.pad, *banned_tokens(tokens, s.no_repeat_ngram)]] = -np.inf
        if step < s.min_length:
            logits[s.eos] = -np.inf
        tokens.append(s.eos if step == s.max_length else int(logits.argmax()))
        if tokens[-1] == s.eos:
            break
    return tuple(tokens[1:])


def _beams(engine: RivalEngine, settings: SearchSettings) -> tuple[int, ...]:
    search, parents = BeamSearch(settings), [*range(settings.beam)]
    while True:
        ids = [words[-1] for words in search.tokens]
        # With few words to choose from, fewer rows than beams may live.
        spare = settings.beam - len(ids)
        logits = engine.step(ids + ids[-1:] * spare, parents + parents[-1:] * spare)
        rows = search.advance(_candidates(logits[: len(ids)], settings))
        if rows is None:
            return search.hypotheses()[0].tokens
        parents = rows


def _candidates(logits: Floats, settings: SearchSettings) -> list[Row]:
    """Each row's best words with their log-probabilities, and that of eos."""
    logits = logits - logits.max(1, keepdims=True)
    logprobs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    count = min(settings.candidate_count, logits.shape[1])
    rows = []
    for row in logprobs:
        best = np.argpartition(row, -count)[-count:]
        best = best[np.argsort(-row[best], kind="stable")]
        rows.append((best.tolist(), row[best].tolist(), float(row[settings.eos])))
    return rows
