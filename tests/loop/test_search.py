"""Search bookkeeping against an exhaustive search written independently."""

from __future__ import annotations

import itertools
import math

import pytest

from mue_edge.loop.search import BeamSearch, SearchSettings, banned_tokens

EOS, PAD, BOS = 2, 1, 0


def scored(tokens: tuple[int, ...], size: int) -> list[float]:
    """A made distribution over `size` tokens that depends on the whole prefix."""
    raw = [math.sin(1.7 * t + 0.9 * sum((i + 1) * v for i, v in enumerate(tokens))) for t in range(size)]
    total = math.log(sum(math.exp(r) for r in raw))
    return [r - total for r in raw]


def search(settings: SearchSettings, size: int = 7) -> BeamSearch:
    made = BeamSearch(settings)
    parents: list[int] | None = [0]
    while parents is not None:
        rows = []
        for tokens in made.tokens:
            logprobs = scored(tuple(tokens), size)
            order = sorted(range(size), key=lambda t: -logprobs[t])[: settings.candidate_count]
            rows.append((order, [logprobs[t] for t in order], logprobs[EOS]))
        parents = made.advance(rows)
    return made


def test_greedy_takes_the_best_allowed_token() -> None:
    settings = SearchSettings(max_length=4, no_repeat_ngram=0)
    best = search(settings).hypotheses()[0]
    tokens: list[int] = [BOS]
    while tokens[-1] != EOS:
        logprobs = scored(tuple(tokens), 7)
        step = len(tokens) - 1
        allowed = [EOS] if step == 4 else [t for t in range(7) if t != PAD and (step or t != EOS)]
        tokens.append(max(allowed, key=lambda t: logprobs[t]))
    assert list(best.tokens) == tokens[1:]


def test_a_wide_beam_finds_the_exhaustive_optimum() -> None:
    settings = SearchSettings(beam=40, max_length=2, no_repeat_ngram=0)
    found = search(settings).hypotheses()[0]
    best = (-math.inf, ())
    for length in (1, 2):
        for words in itertools.product([0, 3, 4, 5, 6], repeat=length):
            tokens = (*words, EOS)
            total = sum(scored((BOS, *tokens[:i]), 7)[t] for i, t in enumerate(tokens))
            best = max(best, (total / len(tokens), tokens))
    assert found.tokens == best[1]
    assert found.score == pytest.approx(best[0])
    assert sum(found.positional_scores) / len(found.tokens) == pytest.approx(found.score)


@pytest.mark.parametrize("beam", [1, 3])
def test_no_ngram_comes_twice_and_the_length_is_bounded(beam: int) -> None:
    settings = SearchSettings(beam=beam, max_length=12, min_length=5, no_repeat_ngram=2)
    for hypothesis in search(settings, size=6).hypotheses():
        tokens = (BOS, *hypothesis.tokens)
        pairs = list(itertools.pairwise(tokens))
        assert len(pairs) == len(set(pairs))
        assert 6 <= len(hypothesis.tokens) <= 13
        assert hypothesis.tokens[-1] == EOS and PAD not in hypothesis.tokens


def test_hypotheses_are_sorted_and_as_many_as_beams() -> None:
    found = search(SearchSettings(beam=4, max_length=6)).hypotheses()
    assert len(found) == 4
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_banned_tokens() -> None:
    assert banned_tokens([0, 5, 6, 7, 5, 6], 3) == {7}
    assert banned_tokens([0, 5, 6], 3) == set()
    assert banned_tokens([0, 5], 0) == set()


def test_a_search_that_is_cut_gives_its_best_row() -> None:
    made = BeamSearch(SearchSettings(beam=2, no_repeat_ngram=0))
    made.cut()
    assert made.hypotheses()[0].tokens == (EOS,) and made.hypotheses()[0].score == 0
    made = BeamSearch(SearchSettings(beam=2, no_repeat_ngram=0))
    made.advance([([5, 6], [-0.5, -1.0], -9.0)] * 2)
    made.advance([([7, 8], [-3.0, -4.0], -9.0), ([9, 8], [-0.25, -4.0], -9.0)])
    made.cut()
    (best,) = made.hypotheses()
    assert best.tokens == (6, 9, EOS) and best.positional_scores == (-1.0, -0.25, 0.0)
    assert best.score == pytest.approx(-1.25 / 3)


def test_a_search_that_is_cut_prefers_what_has_finished() -> None:
    made = BeamSearch(SearchSettings(beam=2, min_length=0, no_repeat_ngram=0))
    made.advance([([5, EOS, 6], [-0.5, -0.6, -1.0], -0.6)] * 2)
    made.cut()
    assert [h.tokens for h in made.hypotheses()] == [(EOS,)]
