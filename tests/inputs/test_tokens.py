from __future__ import annotations

import itertools
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mue_edge.errors import InputFileError, UsageError
from mue_edge.inputs.bpe import ALPHABET, apply_merges, split
from mue_edge.inputs.tokens import Tokenizer, from_json, ids_only, load
from mue_edge.reading import MAX_FILE_BYTES

NAMES = ("<s>", "<pad>", "</s>", "<unk>")
MERGES = (("Ġ", "h"), ("Ġh", "o"), ("r", "s"), ("Ġho", "rs"), ("Ġhors", "e"), ("!", "!"))


def tokenizer(**changes: Any) -> Tokenizer:
    """Ids 0-3 specials, 4-259 the bytes, then what the merges make."""
    values: dict[str, Any] = {
        "pieces": (*NAMES, *ALPHABET, *("".join(pair) for pair in MERGES)),
        "merges": MERGES,
        "specials": frozenset(range(4)),
    }
    return Tokenizer(**values | changes)


BYTES = tokenizer()
# No lone surrogates: they are not text, and UTF-8 has no form for them.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_text_survives_a_round_trip(text: str) -> None:
    assert "".join(split(text)) == text
    assert BYTES.decode(BYTES.encode(text)) == text


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_a_caption_grows_by_whole_characters(text: str) -> None:
    ids = BYTES.encode(text)
    shown = [BYTES.caption(ids[:n], ended=False) for n in range(len(ids) + 1)]
    assert all(BYTES.caption(ids).startswith(part) for part in shown)
    assert shown[-1] == BYTES.caption(ids)


def test_a_character_that_lacks_bytes_waits_until_the_caption_ends() -> None:
    ids = BYTES.encode(" horse é")[:-1]
    assert BYTES.caption(ids, ended=False) == "horse" and BYTES.caption(ids) == "horse \ufffd"


def gpt2_pattern_by_hand(text: str) -> list[str]:
    """GPT-2's expression with ASCII letters and digits, for ASCII text only."""
    return re.findall(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^ \t\n\r\f\vA-Za-z0-9]+|\s+(?!\S)|\s+", text)


@settings(max_examples=500, deadline=None)
@given(st.text("ab' 1\t\n.strevmld", max_size=30))
def test_words_are_cut_as_gpt2_cuts_ascii(text: str) -> None:
    assert split(text) == gpt2_pattern_by_hand(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("it's  they'LL", ["it", "'s", " ", " they", "'", "LL"]),
        ("a\u3000 b", ["a", "\u3000", " b"]),
        ("½ and ٣", ["½", " and", " ٣"]),
        ("über 漢字!?", ["über", " 漢字", "!?"]),
        ("a\x1cb", ["a", "\x1c", "b"]),  # a separator by str.isspace, but not by White_Space
        ("e\u0301", ["e", "\u0301"]),  # a combining accent is no letter
        ("  \n", ["  \n"]),
    ],
)
def test_words_are_cut_by_unicode_class(text: str, words: list[str]) -> None:
    assert split(text) == words


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_merging_equals_the_plain_algorithm(data: st.DataObject) -> None:
    pairs: list[tuple[str, str]] = []
    symbols = list("abc")
    for _ in range(data.draw(st.integers(0, 7))):
        pair = (data.draw(st.sampled_from(symbols)), data.draw(st.sampled_from(symbols)))
        if pair not in pairs:
            pairs.append(pair)
            symbols.append("".join(pair))
    ranks = {pair: rank for rank, pair in enumerate(data.draw(st.permutations(pairs)))}
    word = list(data.draw(st.text("abc", max_size=12)))
    assert apply_merges(list(word), ranks) == plain_merging(word, ranks)


def plain_merging(word: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    while known := [pair for pair in itertools.pairwise(word) if pair in ranks]:
        best, merged = min(known, key=ranks.__getitem__), []
        while word:
            width = 2 if tuple(word[:2]) == best else 1
            merged.append("".join(word[:width]))
            word = word[width:]
        word = merged
    return word


def test_a_long_word_takes_no_quadratic_time() -> None:
    merges, piece = [], "a"
    for _ in range(9):
        merges.append((piece, piece))
        piece += piece
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    assert apply_merges(["a"] * (1 << 16), ranks) == [piece] * (1 << 7)


def test_special_names_in_a_text_are_ordinary_characters() -> None:
    text = "</s><s> <pad><mask><code_1>"
    ids = BYTES.encode(text)
    assert not BYTES.specials & set(ids)
    assert BYTES.decode(ids) == text
    # Not even where merges would build the special's name.
    horse = BYTES.pieces.index("Ġhorse")
    assert BYTES.encode(" horse") == [horse]
    assert tokenizer(specials=frozenset({0, 1, 2, 3, horse})).encode(" horse") == [BYTES.unk]


def test_what_is_not_in_the_vocabulary_becomes_unk() -> None:
    small = tokenizer(pieces=(*NAMES, "a", "Ġhorse"))
    assert small.encode("a horse?") == [4, 5, small.unk]


def test_caption_drops_punctuation_if_the_model_wants_it() -> None:
    ids = [0, *BYTES.encode(" a man's horse, é. "), 2, 1]
    assert BYTES.decode(ids) == " a man's horse, é. "
    assert BYTES.caption(ids) == "a mans horse é"
    assert tokenizer(strip_punctuation=False).caption(ids) == "a man's horse, é."


def test_bytes_that_are_no_utf8_never_fail() -> None:
    assert BYTES.decode([4 + 0xFF, 4 + 0xC3]) == "\ufffd\ufffd"
    with pytest.raises(UsageError, match="266"):
        BYTES.decode([266])


def test_lone_surrogates_and_long_texts() -> None:
    assert BYTES.decode(BYTES.encode("a\ud800b")) == "a?b"
    with pytest.raises(UsageError, match="characters"):
        BYTES.encode("a" * 100_000)


def test_ids_only() -> None:
    tok = ids_only(10)
    assert tok.caption([0, 7, 9, 2]) == "<7> <9>"
    assert from_json(tok.to_json()) == tok
    with pytest.raises(UsageError, match="no vocabulary"):
        tok.encode(" a")


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tok = tokenizer(strip_punctuation=False)
    tok.save(path)
    assert load(path) == tok
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "mue-edge tokenizer 2"}, "this version"),
        ({"extra": 1}, "extra"),
        ({"words": 1}, "words"),
        ({"words": False}, "without words"),
        ({"size": 5}, "size"),
        ({"eos": True}, "eos"),
        ({"eos": 9}, "eos"),
        ({"eos": -1}, "eos"),
        ({"pieces": [*NAMES, "a", "a"], "size": 6}, "same piece"),
        ({"pieces": [*NAMES, "a b"], "size": 5}, "alphabet"),
        ({"pieces": [*NAMES, ""], "size": 5}, "alphabet"),
        ({"pieces": [*NAMES, "a" * 2000], "size": 5}, "2000"),
        ({"pieces": [*NAMES, 5], "size": 5}, "pieces"),
        ({"pieces": [], "size": 0}, "0 pieces"),
        ({"merges": ["a"]}, "merge"),
        ({"merges": ["a b c"]}, "merge"),
        ({"merges": ["a b", "a b"]}, "twice"),
        ({"merges": ["a \n"]}, "alphabet"),
        ({"specials": [0, 1, 2, 3, 999]}, "999"),
        ({"specials": [1, 2, 3]}, "bos"),
        ({"specials": [0.0, 1, 2, 3]}, "specials"),
    ],
)
def test_a_changed_file_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputFileError, match=said):
        from_json(BYTES.to_json() | change)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, "\xff", '{"format": NaN}'])
def test_what_is_no_tokenizer_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputFileError, match=r"tokenizer\.json"):
        load(path)
    with pytest.raises(InputFileError, match="not there"):
        load(tmp_path / "absent.json")
    with pytest.raises(InputFileError, match="not a file"):
        load(tmp_path)


def test_an_oversize_file_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(BYTES.to_json()))
    os.truncate(path, MAX_FILE_BYTES + 1)
    with pytest.raises(InputFileError, match="larger"):
        load(path)
