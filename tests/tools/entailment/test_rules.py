"""What follows from an emoji's name, and pairs that are drawn by it."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from mue_edge.apps.entailment import model_folder, shipped
from tools.entailment.rules import LABELS, TONES, Names, contradictions

KINDS = {
    "guard": "role", "man guard": "role", "woman guard": "role", "cook": "role", "man cook": "role",
    "man": "", "woman": "", "person": "", "boy": "", "child": "",
    "man: red hair": "", "man: white hair": "", "man: beard": "",
    "couple: man, man": "family", "couple: woman, man": "family", "couple": "family",
    "cat": "animal", "black cat": "animal", "dog": "animal",
    **{f"guard: {tone}": "role" for tone in TONES}, **{f"man guard: {tone}": "role" for tone in TONES},
}  # fmt: skip
NAMES = Names(KINDS)


def flat(name: str, label: str) -> set[str]:
    return {h for found in NAMES.hypotheses(name, label).values() for h in found}


def test_a_name_that_says_less_is_true() -> None:
    dark = "man guard: dark skin tone"
    assert flat(dark, "yes") == {dark, "man guard", "guard", "guard: dark skin tone"}
    assert flat("boy", "yes") == {"boy", "child"}
    assert flat("man: red hair", "yes") == {"man: red hair", "man", "person"}
    assert flat("couple: man, man", "yes") == {"couple: man, man", "couple"}


def test_an_exchanged_attribute_is_false() -> None:
    tones = NAMES.hypotheses("man guard: dark skin tone", "no")["tone"]
    assert tones == sorted(f"man guard: {tone}" for tone in TONES[:3])  # the next tone looks alike
    assert NAMES.hypotheses("man guard", "no")["gender"] == ["woman guard"]
    assert NAMES.hypotheses("man: red hair", "no") == {"hair": ["man: white hair"]}
    assert NAMES.hypotheses("couple: man, man", "no")["gender"] == ["couple: woman, man"]


def test_another_of_the_kind_is_false_unless_it_may_be_the_same() -> None:
    assert NAMES.hypotheses("cat", "no") == {"kind": ["dog"]}
    assert flat("man guard", "no") == {"woman guard", "man cook"}
    assert flat("child", "no") == set()  # of plain people nothing is known to exclude the others


def test_a_name_that_says_more_is_undecided() -> None:
    found = NAMES.hypotheses("guard", "maybe")
    assert found["gender"] == ["man guard", "woman guard"]
    assert found["tone"] == sorted(f"guard: {tone}" for tone in TONES)
    assert len(found["both"]) == 5
    assert flat("man", "maybe") == set()  # a beard would be seen


def test_a_far_name_is_of_another_kind_and_shares_no_word() -> None:
    places = [i / 97 for i in range(97)]
    assert {NAMES.far("black cat", p) for p in places} == {
        text for text, kind in KINDS.items() if kind in ("role", "family")
    }
    assert {NAMES.far("man: beard", p) for p in places} == {"cat", "black cat", "dog", "couple", "cook", "guard"}
    assert not {h for name in KINDS for h in [NAMES.far(name, 0.3)] if h in flat(name, "yes")}


def test_no_name_has_two_labels() -> None:
    assert contradictions(NAMES, KINDS) == []


@pytest.mark.parametrize("split", shipped.SPLITS)
def test_shipped_pairs_are_balanced_and_have_their_pictures(split: str) -> None:
    lines = shipped.table(split).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(set(Counter(row["label"] for row in rows).values())) == 1
    assert {row["label"] for row in rows} == set(LABELS)
    assert all((shipped.pictures(split) / row["image"]).is_file() for row in rows)
    assert len({(row["image"], row["label"]) for row in rows}) == len(rows)


def test_the_bundled_model_reads_the_longest_shipped_statement() -> None:
    from mue_edge.export.prompts import read_prompt
    from mue_edge.inputs import tokens
    from mue_edge.inputs.statements import source_ids

    tokenizer = tokens.load(model_folder() / "tokenizer.json")
    prompt = read_prompt(model_folder(), "entail")
    assert tuple(prompt.answers) == LABELS
    for split in shipped.SPLITS:
        for line in shipped.table(split).read_text(encoding="utf-8").splitlines():
            statement = json.loads(line)["hypothesis"]
            assert len(source_ids(prompt.template, statement, tokenizer)) <= prompt.options["text_length"]


def test_the_bundled_model_reads_what_it_was_trained_on_as_it_is_and_nothing_in_articles() -> None:
    """Its own names keep theirs; no other statement has any, and every word of them is known."""
    pytest.importorskip("torch")
    from mue_edge.apps.stickers.shipped import train_captions
    from mue_edge.export.prompts import read_prompt
    from mue_edge.inputs import tokens
    from mue_edge.inputs.statements import clean, unknown_words
    from tools.entailment.network import said_of

    tokenizer = tokens.load(model_folder() / "tokenizer.json")
    asked = json.loads((model_folder() / "prompts.json").read_text(encoding="utf-8"))["entail"]
    names, template = set(train_captions()), read_prompt(model_folder(), "entail").template
    assert asked | said_of(sorted(names)) == asked
    for split in shipped.SPLITS:
        names |= {json.loads(line)["hypothesis"] for line in shipped.table(split).read_text("utf-8").splitlines()}
    for name in names:
        assert template.clean(name) == template.clean(f"the {name}") == clean(name)
        assert unknown_words(template, name, tokenizer) == ()
    assert unknown_words(template, "a photo of a tiger", tokenizer) == ("photo",)
