"""Greedy and beam search bookkeeping with fairseq's semantics; greedy is a beam of one.

Neither logits nor caches live here: a caller hands in the best candidates of every live row
and learns which row each new row descends from. The torch model and the device loop share it,
so that both choose the same tokens. Source of the rules: fairseq's sequence generator, as
described in its documentation and checked against the golden vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Row = tuple[Sequence[int], Sequence[float], float]


@dataclass(frozen=True)
class Hypothesis:
    """A finished caption: token ids (end-of-sentence included, bos not) and log-probabilities.

    `score` is the sum of `positional_scores` divided by length ** length_penalty.
    """

    tokens: tuple[int, ...]
    score: float
    positional_scores: tuple[float, ...]


@dataclass(frozen=True)
class SearchSettings:
    """What is searched: `max_length` is fairseq's max_len_b, so up to max_length + 1 steps run.

    `answers`: nothing is written, one of these words is chosen; the head scores them alone, in this order.
    `fed`: what the decoder reads before that, a word a step: bos, and the source text without so many ids at
    its front and at its end; empty: bos alone.
    """

    beam: int = 1
    max_length: int = 16
    min_length: int = 1
    no_repeat_ngram: int = 3
    length_penalty: float = 1.0
    bos: int = 0
    pad: int = 1
    eos: int = 2
    answers: tuple[int, ...] = ()
    fed: tuple[int, ...] = ()

    @property
    def candidate_count(self) -> int:
        """Candidates wanted of every row: 2 · beam that survive every ban that can occur."""
        return 2 * self.beam + self.max_length + 3


class BeamSearch:
    """The live rows of one sample. `advance` takes one step's candidates."""

    def __init__(self, settings: SearchSettings | None = None) -> None:
        self.settings = settings or SearchSettings()
        self.step = 0
        self.tokens: list[list[int]] = [[self.settings.bos] for _ in range(self.settings.beam)]
        self._scores: list[list[float]] = [[] for _ in range(self.settings.beam)]
        self._finished: list[Hypothesis] = []

    def advance(self, rows: Sequence[Row]) -> list[int] | None:
        """Take one step; rows[b] = (ids, log-probabilities, log-probability of eos) of live row b.

        ids are the row's best `settings.candidate_count` candidates, best first (all, if the vocabulary is
        smaller). Returns for every new live row the row that it descends from, or None at the end.
        """
        s = self.settings
        candidates: list[tuple[float, int, int]] = []
        for parent, row in enumerate(rows if self.step else rows[:1]):
            before = self._scores[parent][-1] if self.step else 0.0
            candidates += [(before + lp, parent, token) for token, lp in self._allowed(parent, row)]
        candidates.sort(key=lambda c: (-c[0], c[1], c[2]))
        del candidates[2 * s.beam :]

        for score, parent, token in candidates[: s.beam]:
            if token == s.eos and len(self._finished) < s.beam:
                self._finish(score, parent)
        survivors = [c for c in candidates if c[2] != s.eos][: s.beam]
        if len(self._finished) == s.beam or self.step >= s.max_length or not survivors:
            return None
        self.tokens = [[*self.tokens[parent], token] for _, parent, token in survivors]
        self._scores = [[*self._scores[parent], score] for score, parent, _ in survivors]
        self.step += 1
        return [parent for _, parent, _ in survivors]

    def copy(self) -> BeamSearch:
        """Another that goes on from here."""
        other = BeamSearch(self.settings)
        other.step, other._finished = self.step, list(self._finished)
        other.tokens, other._scores = [list(row) for row in self.tokens], [list(row) for row in self._scores]
        return other

    def cut(self) -> None:
        """End now. If nothing has finished, the best live row does: a forced end of sentence, whose
        log-probability counts as 0."""
        if not self._finished:
            self._finish(self._scores[0][-1] if self.step else 0.0, 0)

    def hypotheses(self) -> list[Hypothesis]:
        """The finished hypotheses, best first."""
        return sorted(self._finished, key=lambda h: -h.score)

    def _allowed(self, row: int, candidates: Row) -> list[tuple[int, float]]:
        s = self.settings
        ids, logprobs, eos_logprob = candidates
        if self.step >= s.max_length:
            return [(s.eos, eos_logprob)]
        banned = banned_tokens(self.tokens[row], s.no_repeat_ngram) | {s.pad}
        if self.step < s.min_length:
            banned.add(s.eos)
        kept = [(t, lp) for t, lp in zip(ids, logprobs) if t not in banned and lp != -math.inf]
        return kept[: 2 * s.beam]

    def _finish(self, score: float, parent: int) -> None:
        cumulative = [*self._scores[parent], score]
        each = [b - a for a, b in zip([0.0, *cumulative], cumulative)]
        self._finished.append(
            Hypothesis(
                tokens=(*self.tokens[parent][1:], self.settings.eos),
                score=score / len(cumulative) ** self.settings.length_penalty,
                positional_scores=tuple(each),
            )
        )


class Choice(BeamSearch):
    """Chooses among `settings.answers`, in the step whose input is the prompt's last word; the steps before
    only feed the prompt. The candidates' ids are indices into that list, and every answer is a hypothesis of
    one token."""

    def __init__(self, settings: SearchSettings, prompt: Sequence[int]) -> None:
        super().__init__(settings)
        self._prompt = prompt
        self.tokens = [[*prompt[:1]]]

    def advance(self, rows: Sequence[Row]) -> list[int] | None:
        """Take one step; rows[0] = (indices, log-probabilities, anything)."""
        self.step += 1
        if self.step < len(self._prompt):
            self.tokens = [[*self._prompt[: self.step + 1]]]
            return [0]
        indices, logprobs, _ = rows[0]
        for index, logprob in zip(indices, logprobs):
            self._finished.append(Hypothesis((self.settings.answers[index],), logprob, (logprob,)))
        return None


def new_search(settings: SearchSettings, source: Sequence[int] = ()) -> BeamSearch:
    """The search that the settings ask for; `source`: ids of the source text, bos … eos, if it comes with the
    picture."""
    if not settings.answers:
        return BeamSearch(settings)
    return Choice(settings, prompt_ids(settings.bos, settings.fed, source))


def prompt_ids(bos: int, fed: Sequence[int], source: Sequence[int]) -> tuple[int, ...]:
    """What the decoder reads of a source text before it answers; see `SearchSettings.fed`."""
    return (bos, *source[fed[0] : len(source) - fed[1]]) if fed else (bos,)


def banned_tokens(tokens: Sequence[int], ngram: int) -> set[int]:
    """The tokens that would complete an n-gram which `tokens` (bos included) already holds; 0 = no ban."""
    if ngram <= 0 or len(tokens) < ngram:
        return set()
    tail = tuple(tokens[len(tokens) - ngram + 1 :])
    starts = range(len(tokens) - ngram + 1)
    return {tokens[i + ngram - 1] for i in starts if tuple(tokens[i : i + ngram - 1]) == tail}
