"""Statements from tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mue_edge.calibrate.data.statement_tables import StatementVocabulary, read
from mue_edge.errors import InputFileError
from mue_edge.inputs.statements import Template
from mue_edge.inputs.tokens import Tokenizer

LETTERS = tuple(f"Ġ{chr(code)}" for code in range(ord("a"), ord("z") + 1))
TOKENIZER = Tokenizer(
    ("<s>", "<pad>", "</s>", "<unk>", *LETTERS), tuple(("Ġ", piece[1]) for piece in LETTERS),
    frozenset(range(4)),
)  # fmt: skip
ASKED = StatementVocabulary(Template(" z {hypothesis}"), ("no", "yes", "maybe"), TOKENIZER)
CAPTIONED = replace(ASKED, template=Template(" z {hypothesis}", " y {caption} x {hypothesis}"))
ROWS = [
    {"image": "1.png", "hypothesis": "a", "label": "yes", "cluster": "one"},
    {"image": "1.png", "hypothesis": "b c", "label": "contradiction", "cluster": "one"},
    {"image": "2.png", "hypothesis": "A", "label": "neutral", "cluster": ""},
]


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_statements_become_samples(tmp_path: Path) -> None:
    found = read(lines(tmp_path / "t.jsonl", ROWS), ASKED)
    assert [s.source for s in found.samples] == [(0, 29, 4, 2), (0, 29, 5, 6, 2), (0, 29, 4, 2)]
    assert found.samples[0].picture == tmp_path / "1.png"
    assert found.references == (("yes",), ("no",), ("maybe",))
    assert found.clusters == ("one", "one", "2.png")


def test_csv_is_the_same(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    body = [",".join(row.values()) for row in ROWS]
    table.write_text("\n".join(["image,hypothesis,label,cluster", *body]) + "\n")
    assert read(table, ASKED, tmp_path / "else").samples[2].picture == tmp_path / "else" / "2.png"
    assert read(table, ASKED).references == (("yes",), ("no",), ("maybe",))


def test_without_labels_there_are_no_references(tmp_path: Path) -> None:
    bare = [{k: row[k] for k in ("image", "hypothesis")} for row in ROWS]
    assert read(lines(tmp_path / "t.jsonl", bare), ASKED).references is None


def test_captions_are_read_where_the_model_reads_them(tmp_path: Path) -> None:
    told = list[str]()
    rows = [ROWS[0] | {"caption": "A"}, ROWS[1] | {"caption": "D-e"}, ROWS[2] | {"caption": ""}]
    wanted = [(0, 28, 4, 27, 4, 2), (0, 28, 7, 8, 27, 5, 6, 2), (0, 29, 4, 2)]
    table = lines(tmp_path / "t.jsonl", rows)
    found = read(table, CAPTIONED, say=told.append)
    assert [s.source for s in found.samples] == wanted
    assert len({s.id for s in found.samples}) == 3
    assert [line for line in told if "1 of 3 lines have none" in line] == told != []
    csv = tmp_path / "t.csv"
    body = [",".join(row.values()) for row in rows]
    csv.write_text("\n".join(["image,hypothesis,label,cluster,caption", *body]) + "\n")
    assert [s.source for s in read(csv, CAPTIONED).samples] == wanted
    told.clear()
    read(lines(tmp_path / "t.jsonl", rows[:2]), CAPTIONED, say=told.append)
    read(lines(tmp_path / "t.jsonl", ROWS), ASKED, say=told.append)
    assert told == []


def test_one_statement_beside_two_captions_is_two(tmp_path: Path) -> None:
    rows = [ROWS[0] | {"caption": caption} for caption in ("a", "b")]
    assert len(read(lines(tmp_path / "t.jsonl", rows), CAPTIONED)) == 2


def test_statements_are_cleaned_as_the_model_wants_them_and_words_that_it_lacks_are_told(tmp_path: Path) -> None:
    told = list[str]()
    asked = replace(ASKED, template=replace(CAPTIONED.template, articles_in=(), words="a b c the"))
    rows = [ROWS[1] | {"hypothesis": "the b, a d", "caption": "an E!"}, ROWS[2] | {"caption": "b"}]
    found = read(lines(tmp_path / "t.jsonl", rows), asked, say=told.append)
    assert found.samples[0].source == (0, 28, 8, 3, 27, 5, 3, 7, 2)
    assert [line.partition(": the model ")[2] for line in told] == ["has no words for d, e"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "3.png", "hypothesis": " "}, "line 2: hypothesis"),
        ({"hypothesis": "a"}, "line 2: not an object with image"),
        ({"image": "3.png", "hypothesis": "a", "label": "perhaps"}, "line 2: the label 'perhaps'"),
        ({"image": "3.png", "hypothesis": "a"}, "1 of 2 lines have no label"),
        (ROWS[0], "stands there twice"),
        (ROWS[1] | {"caption": "a"}, "line 2: this model was not trained with captions"),
        (ROWS[1] | {"caption": ["a"]}, r"line 2: caption is .* which is no text"),
        (ROWS[1] | {"hypothesis": "!"}, "line 2: the statement '!' says nothing"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputFileError, match=message):
        read(lines(tmp_path / "t.jsonl", [ROWS[0], row]), ASKED)
