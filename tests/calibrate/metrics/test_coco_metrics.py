"""COCO's metrics: cases worked out by hand, and what is left out where something is missing."""

from __future__ import annotations

import math
import shutil

import pytest

from mue_edge.calibrate.metrics import coco_metrics, corpus_scores
from mue_edge.calibrate.metrics.bootstrap import Tally
from mue_edge.calibrate.metrics.coco_metrics import measure

REFERENCES = [("a cat sleeps on the old mat",), ("two dogs run in the snow", "dogs running outside")]
GOOD = ["A cat sleeps on the old mat.", "Two dogs run in the snow!"]
BAD = ["a cat sleeps on the new mat", ""]

needs_package = pytest.mark.skipif(not coco_metrics.available(), reason="pycocoevalcap is not installed")
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no Java")


@needs_package
def test_without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    found = measure({"good": GOOD, "bad": BAD}, REFERENCES)
    assert found.words == "spaces"
    assert "METEOR" in found.notes[0]
    good, bad = found.scores["good"], found.scores["bad"]
    assert set(good) == {"bleu_4", "rouge_l", "cider_d"}
    assert good["bleu_4"].total() == pytest.approx(1.0, abs=1e-6)
    assert _each(good["rouge_l"]) == [1.0, 1.0]
    # Identical sentences reach 10; the second picture's other reference has no 2-gram in common.
    assert _each(good["cider_d"])[0] == pytest.approx(10.0)
    assert 5 <= _each(good["cider_d"])[1] < 6
    # Six of seven words in order: precision = recall = 6/7.
    assert _each(bad["rouge_l"]) == pytest.approx([6 / 7, 0.0])
    # 7 words, 6 of 7, 4 of 6, 3 of 5, 2 of 4 n-grams are right; brevity: 7 words against 7 + 3.
    expected = (6 / 7 * 4 / 6 * 3 / 5 * 2 / 4) ** 0.25 * math.exp(1 - 10 / 7)
    assert bad["bleu_4"].total() == pytest.approx(expected, rel=1e-3)


@needs_package
@needs_java
def test_with_java_words_are_coco_s_and_meteor_is_measured() -> None:
    references = [("it 's a man s cat",), ("woman medium-light skin tone",)]
    found = measure({"a": ["It's a man s cat...", "woman: medium-light\nskin tone"], "b": ["", "woman"]}, references)
    assert found.words == "ptb"
    assert "SPICE" in found.notes[-1]
    assert found.scores["a"]["bleu_4"].total() == pytest.approx(1.0, abs=1e-6)
    assert found.scores["a"]["meteor"].total() == pytest.approx(1.0)
    meteor = found.scores["b"]["meteor"]
    assert meteor.value(meteor.rows[0]) == 0.0 < meteor.value(meteor.rows[1]) < 0.5


MIXED = ["the cat is sleeping on an old mat", "dogs running outside", "", "smiling face", "a big red car"]
MIXED_REFERENCES = [*REFERENCES, ("red flag",), ("grinning face", "a face"), ("an enormous red automobile",)]


@needs_package
def test_bleu_is_the_package_s() -> None:
    from pycocoevalcap.bleu.bleu import Bleu

    known, found = dict(enumerate(map(list, MIXED_REFERENCES))), {i: [t] for i, t in enumerate(MIXED)}
    for some in ([0, 1, 2, 3, 4], [0, 1], [2, 3], [1, 1, 4]):
        tally = corpus_scores.bleu(known, found)
        expected, _ = Bleu(4).compute_score(
            {i: known[j] for i, j in enumerate(some)}, {i: found[j] for i, j in enumerate(some)}, verbose=0
        )
        assert float(tally.value(tally.rows[some].sum(0))) == pytest.approx(expected[3], rel=1e-9)


@needs_package
@needs_java
def test_meteor_is_the_package_s() -> None:
    from pycocoevalcap.meteor.meteor import Meteor

    scorer, seen = Meteor(), dict[tuple[str, ...], list[str]]()
    known, found = dict(enumerate(map(list, MIXED_REFERENCES))), {i: [t] for i, t in enumerate(MIXED)}
    tally = corpus_scores.meteor(scorer, known, found, seen)
    whole, each = scorer.compute_score(known, found)
    assert tally.total() == pytest.approx(whole, rel=1e-9)
    assert tally.value(tally.rows) == pytest.approx(each, rel=1e-9)
    assert len(seen) == len(MIXED)
    # What was seen is not asked again.
    again = corpus_scores.meteor(None, known, found, seen)
    assert again.rows.tolist() == tally.rows.tolist()


@needs_package
def test_only_what_is_asked_for() -> None:
    found = measure({"good": GOOD}, REFERENCES, ("cider_d",))
    assert set(found.scores["good"]) == {"cider_d"}
    assert not any("SPICE" in note for note in found.notes)


def _each(tally: Tally) -> list[float]:
    values: list[float] = tally.value(tally.rows).tolist()
    return values


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_metrics, "available", lambda: False)
    found = measure({1: GOOD}, REFERENCES)
    assert found.scores == {1: {}}
    assert "mue-edge[evaluate]" in found.notes[0]


@needs_package
@needs_java
def test_a_java_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    from mue_edge.errors import EnvironmentLacksError

    folder = tmp_path_factory.mktemp("bin")
    (folder / "java").write_text("#!/bin/sh\necho no memory >&2\nexit 1\n")
    (folder / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(EnvironmentLacksError, match="0 of 4 lines: no memory; leave it out: --no-coco"):
        measure({1: ["a", "b"]}, [("a",), ("b",)])
