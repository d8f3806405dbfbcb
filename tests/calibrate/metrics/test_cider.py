"""CIDEr-D with frozen frequencies: equal to the COCO tools where they agree on the idf; bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mue_edge.calibrate.metrics import cider, coco_metrics
from mue_edge.errors import InputFileError, UsageError

WORDS = ("a", "cat", "dog", "sits", "runs", "on", "the", "mat", "snow", "red")
CAPTION = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
PICTURES = st.lists(st.tuples(CAPTION, st.lists(CAPTION.filter(bool), min_size=1, max_size=2)), min_size=2, max_size=4)


def cider_d(caption: str, references: list[str], known: cider.Frequencies) -> float:
    return cider.Scorer([references], known)([caption])[0]


needs_package = pytest.mark.skipif(not coco_metrics.available(), reason="pycocoevalcap is not installed")


@needs_package
@settings(max_examples=40, deadline=None)
@given(PICTURES)
def test_equals_the_coco_tools_when_the_idf_is_the_evaluated_set_s(pictures: list[tuple[str, list[str]]]) -> None:
    from pycocoevalcap.cider.cider import Cider

    captions, references = [p[0] for p in pictures], [p[1] for p in pictures]
    _, wanted = Cider().compute_score(dict(enumerate(references)), {i: [c] for i, c in enumerate(captions)})
    found = cider.Scorer(references, cider.frequencies(references))(captions)
    assert found == pytest.approx(list(wanted), abs=1e-9)


@needs_package
@settings(deadline=None)
@given(st.text(alphabet="aB .?!,:;\"'`-…é\n", max_size=40))
def test_words_are_those_of_the_tables(text: str) -> None:
    assert " ".join(cider.words(text)) == coco_metrics._tokenise([text], java=False)[0]


@settings(max_examples=40, deadline=None)
@given(PICTURES, CAPTION)
def test_bounds_and_the_reference_itself(pictures: list[tuple[str, list[str]]], stranger: str) -> None:
    references = [p[1] for p in pictures]
    known = cider.frequencies([*references, ["never seen words only here", "and four more words"]])
    for caption in [p[0] for p in pictures] + [stranger]:
        assert all(0 <= s <= 10 for s in cider.Scorer(references, known)([caption] * len(references)))
    # 10 needs an n-gram of every size that some other picture lacks.
    rare = "never seen words only here"
    assert cider_d(rare, [rare], known) == pytest.approx(10, abs=1e-9)
    assert cider_d("", [rare], known) == 0


def test_worked_out_by_hand() -> None:
    # 4 documents; "a" in all of them (idf 0), "cat" in two (log 2), "dog" in one (log 4).
    known = cider.frequencies([["a cat"], ["a cat", "a"], ["a dog"], ["a"]])
    assert known.documents == 4
    assert known.counts == {"a": 4, "cat": 2, "a cat": 2, "dog": 1, "a dog": 1}
    # 1-grams: only "cat" weighs, cosine 1; 2-grams equal; none longer: 10 · 2/4.
    assert cider_d("A cat.", ["a cat"], known) == pytest.approx(5)
    # A repeated word gains nothing: min(2 log 2, log 2) log 2 / (2 log 2 · log 2) = 1/2, one word apart.
    assert cider_d("cat cat", ["cat"], known) == pytest.approx(10 / 4 / 2 * 2.718281828 ** (-1 / 72))


def test_frozen_means_that_other_pictures_do_not_matter() -> None:
    known = cider.frequencies([["a red cat"], ["a blue dog"], ["the old house"]])
    alone = cider.Scorer([["a red cat"]], known)(["a red dog"])
    assert cider.Scorer([["a red cat"], ["a red cat"]], known)(["a red dog", "x"])[:1] == alone


def test_fingerprint_is_of_all_counts() -> None:
    known = cider.frequencies([["a cat"], ["été à la plage"]])
    assert known.fingerprint() == "b3c849ebf2118447"
    assert known.fingerprint() != cider.frequencies([["a"], ["b"]]).fingerprint()
    with pytest.raises(InputFileError, match="2 pictures or more"):
        cider.frequencies([["a"]])


def test_misuse_is_named() -> None:
    known = cider.frequencies([["a"], ["b"]])
    with pytest.raises(UsageError, match="certify consistency"):
        cider.Scorer([[]], known)(["a"])
    with pytest.raises(UsageError, match="2 captions for the references of 1"):
        cider.Scorer([["a"]], known)(["a", "b"])
