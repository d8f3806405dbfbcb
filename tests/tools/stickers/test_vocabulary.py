"""The pruned tokenizer splits as the full one does."""

from __future__ import annotations

import json
from pathlib import Path

from mue_edge.inputs.bpe import ALPHABET, apply_merges
from tools.stickers.vocabulary import SPECIALS, derivation, prune

MERGES = [("c", "a"), ("ca", "t"), ("Ġ", "cat"), ("a", "t"), ("Ġ", "a"), ("e", "e"), ("s", "s"), ("Ġa", "t")]


def _files(folder: Path) -> tuple[Path, Path]:
    pieces = [*ALPHABET, *dict.fromkeys(left + right for left, right in MERGES)]
    (folder / "encoder.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES)]
    (folder / "vocab.bpe").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "encoder.json", folder / "vocab.bpe"


def test_derivations_equal_the_runtime_s() -> None:
    ranks = {pair: rank for rank, pair in enumerate(MERGES)}
    for word in (" cat", " at", "eeee", "tat", " caat", "ß"):
        symbols = [ALPHABET[byte] for byte in word.encode()]
        assert derivation(word, ranks)[0] == apply_merges(symbols, ranks)


def test_pruning_changes_no_split(tmp_path: Path) -> None:
    encoder, merges = _files(tmp_path)
    tokenizer = prune([" cat", " cat eats"], encoder, merges)
    assert tokenizer.pieces[: len(SPECIALS)] == SPECIALS
    assert len(tokenizer.pieces) < 20
    assert ("s", "s") not in tokenizer.merges
    assert tokenizer.decode(tokenizer.encode(" cat eats")) == " cat eats"
    assert tokenizer.encode(" cat") == [tokenizer.pieces.index("Ġcat")]
    assert tokenizer.unk not in tokenizer.encode(" cat eats")
    # Captions hold colons and commas, which must not be stripped.
    assert not tokenizer.strip_punctuation
