"""The report: well formed, self-contained, escaped, and complete."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mue_edge.calibrate.policies.calibration import Calibration
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator
from mue_edge.calibrate.report import document, findings
from mue_edge.calibrate.report.report_page import table, tag, text
from tests.calibrate.made_calibration import NASTY, calibration, evaluator

VOID = {"meta", "img"}
PNG = b"a picture"


class Checked(HTMLParser):
    """Every element is closed where it was opened; collects tags, text and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def here(tmp_path: Path) -> PolicyEvaluator:
    return evaluator(tmp_path)


def page(made: Calibration, live: findings.Live | None = None) -> tuple[str, Checked]:
    found = findings.find(made, live)
    html = document.render(made, found, PNG, "mue-edge calibrate x --budget '30 ms'")
    checked = Checked()
    checked.feed(html)
    checked.close()
    assert checked.open == []
    return html, checked


def test_it_is_whole_and_needs_nothing_from_outside(here: PolicyEvaluator) -> None:
    html, checked = page(calibration(here, "quick"), {"full": np.ones(3), "quick": np.full(3, 0.001)})
    assert checked.tags.count("html") == checked.tags.count("h1") == 1 and "script" not in checked.tags
    assert checked.addresses and all(a.startswith("data:image/") for a in checked.addresses)
    assert not re.search(r"https?:|@import|url\(", html)
    words = " ".join(checked.words)
    made = calibration(here, "quick")
    for part in (made.certificate.statement, "mue-edge calibrate x --budget '30 ms'", "decoder 1", "0 of 3 late"):
        assert part in words, part


def test_what_people_wrote_is_text(here: PolicyEvaluator) -> None:
    html, checked = page(calibration(here, "quick"))
    assert any(NASTY in words for words in checked.words) and "<script" not in html


def test_pictures_whose_caption_changed_are_shown_with_all_captions(here: PolicyEvaluator) -> None:
    made = calibration(here, "quick")
    # Pictures 1 and 2 lose 2 points, 5 gains one.
    assert document.changed(made) == [1, 2, 5] and document.changed(calibration(here, "safe")) == [5]
    _, checked = page(made)
    assert checked.tags.count("li") == 3 and checked.tags.count("img") == 1 + 3
    words = " ".join(checked.words)
    assert "3 of 8 pictures (4 clusters) of certify: 2 score lower, 1 higher, 0 the same." in words
    assert all(f"picture {i}" in checked.words for i in (1, 2, 5)) and "picture 3" not in checked.words
    assert checked.words.count("another") == 3


def test_many_changes_are_shown_from_the_worst_to_the_best() -> None:
    rows = list(range(100, 400))
    shown = document.spread(rows, 24)
    assert len(shown) == 24 and (shown[0], shown[-1]) == (100, 399) and shown == sorted(set(shown))
    assert document.spread(rows[:24], 24) == rows[:24]


def test_pictures_that_are_inputs_are_left_out(here: PolicyEvaluator) -> None:
    made = calibration(here, "quick")
    samples = tuple(replace(s, picture=np.zeros((1, 3, 4, 4), np.float32)) for s in made.certify.samples)
    _, checked = page(replace(made, certify=replace(made.certify, source="x")))
    assert checked.tags.count("img") == 4
    bare = document.thumbnail(samples[0].picture)
    assert bare == ""


def test_nothing_certified_and_no_references(here: PolicyEvaluator) -> None:
    made = calibration(replace(here, frequencies=None), certified=())
    html, _ = page(replace(made, certify=replace(made.certify, references=None)))
    assert "Nothing is certified" in html and "not certified" in html and "people" not in html


def test_text_is_escaped_and_bars_follow_shares() -> None:
    assert tag("p", "<b>", tag("i", "&"), class_="x") == '<p class="x">&lt;b&gt;<i>&amp;</i></p>'
    assert text(tag("b")) == "<b></b>"
    made = table("t", ("a", "b"), [("x", 0.255), ("y", "–")], bar=1)
    assert "25.5%</td>" in made and "width: 25.5%" in made and made.count('class="bar"') == 1
