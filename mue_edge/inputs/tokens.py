"""Words to ids and back: byte-level BPE as GPT-2 defined it, standard library only.

A piece is a string over GPT-2's 256 printable stand-ins for bytes; its position in `pieces` is
the model's own id. Specials (`<s>`, `<code_7>`, …) are ids without text: `decode` skips them, and
`encode` never yields one, so a `</s>` that a user types is four ordinary characters.
"""

from __future__ import annotations

import codecs
import json
import string
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mue_edge import schema
from mue_edge.errors import InputFileError, UsageError
from mue_edge.files import atomic_write
from mue_edge.inputs.bpe import ALPHABET, BYTES, apply_merges, split
from mue_edge.reading import read_json

MAX_PIECES = 1 << 20
MAX_PIECE_CHARS = 1024
MAX_TEXT_CHARS = 1 << 16

_FORMAT = "mue-edge tokenizer 1"
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary and its merges, best first; `words` is false where only ids are known.

    `strip_punctuation`: captions lose ASCII punctuation, as in OFA's evaluation.
    Raises InputFileError when the parts do not fit together.
    """

    pieces: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    specials: frozenset[int]
    bos: int = 0
    pad: int = 1
    eos: int = 2
    unk: int = 3
    strip_punctuation: bool = True
    words: bool = True

    def __post_init__(self) -> None:
        size = len(self.pieces)
        if not 0 < size <= MAX_PIECES or len(self.merges) > MAX_PIECES:
            raise InputFileError(f"tokenizer: {size} pieces and {len(self.merges)} merges; 1 to {MAX_PIECES} fit")
        if outside := [i for i in self.specials if not 0 <= i < size]:
            raise InputFileError(f"tokenizer: special id {min(outside)} is outside of {size} pieces")
        for name in ("bos", "pad", "eos", "unk"):
            if (i := getattr(self, name)) not in self.specials:
                raise InputFileError(f"tokenizer: {name} = {i} is not among the special ids")
        for i, piece in enumerate(self.pieces):
            if len(piece) > MAX_PIECE_CHARS:
                raise InputFileError(f"tokenizer: piece {i} has {len(piece)} characters; {MAX_PIECE_CHARS} fit")
            if i not in self.specials and not (piece and BYTES.keys() >= set(piece)):
                raise InputFileError(f"tokenizer: piece {i}, {piece!r}, is not in GPT-2's byte alphabet")
        if len(self._ids) != size - len(self.specials):
            raise InputFileError("tokenizer: two ids have the same piece")
        if not all(left and right and BYTES.keys() >= set(left + right) for left, right in self.merges):
            raise InputFileError("tokenizer: a merge is empty or not in GPT-2's byte alphabet")
        if len(self._ranks) != len(self.merges):
            raise InputFileError("tokenizer: a merge is there twice")

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.pieces) if i not in self.specials}

    @cached_property
    def _ranks(self) -> dict[tuple[str, str], int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without bos and eos; a piece outside of the vocabulary becomes `unk`.

        OFA's prompts start with a space. Raises UsageError for a text that is too long, or when
        the model has no vocabulary.
        """
        if not self.words:
            raise UsageError("this model has no vocabulary, so it cannot read a text; give ids")
        if len(text) > MAX_TEXT_CHARS:
            raise UsageError(f"the text has {len(text)} characters; at most {MAX_TEXT_CHARS} are read")
        ids = []
        for word in split(text):
            # A lone surrogate is no character: it is read as "?".
            symbols = [ALPHABET[byte] for byte in word.encode("utf-8", errors="replace")]
            ids += [self._ids.get(symbol, self.unk) for symbol in apply_merges(symbols, self._ranks)]
        return ids

    def to_bytes(self, ids: Iterable[int]) -> bytes:
        """UTF-8 bytes of the ids, which may end within a character; specials have none."""
        size, out = len(self.pieces), bytearray()
        for i in ids:
            if not 0 <= i < size:
                raise UsageError(f"token id {i} is outside of the vocabulary of {size}")
            if i not in self.specials:
                out += bytes(BYTES[char] for char in self.pieces[i])
        return bytes(out)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids; bytes that are not UTF-8 become U+FFFD.

        Raises UsageError for an id outside of the vocabulary.
        """
        return self.to_bytes(ids).decode("utf-8", errors="replace")

    def caption(self, ids: Iterable[int], *, ended: bool = True) -> str:
        """`decode` as a caption is shown: stripped and, if the model wants it, without punctuation.

        ended: if it has not, a last character of which bytes are still to come is left out.
        """
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(self.to_bytes(ids), ended)
        return (text.translate(_NO_PUNCTUATION) if self.strip_punctuation else text).strip()

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = schema.encode(
            _TokenizerFile(
                _FORMAT,
                self.words,
                len(self.pieces),
                self.pieces if self.words else (),
                tuple(map(" ".join, self.merges)),
                tuple(sorted(self.specials)),
                *(self.bos, self.pad, self.eos, self.unk),
                self.strip_punctuation,
            )
        )
        return data

    def save(self, path: str | Path) -> None:
        """Write the tokenizer's JSON; the file appears complete or not at all."""
        atomic_write(path, json.dumps(self.to_json()))


def ids_only(size: int, *, bos: int = 0, pad: int = 1, eos: int = 2, unk: int = 3) -> Tokenizer:
    """The tokenizer of a model without vocabulary: `caption` prints `<123> <45>`, `encode` refuses."""
    pieces, specials = tuple(f"Ġ<{i}>" for i in range(size)), (bos, pad, eos, unk)
    return Tokenizer(pieces, (), frozenset(specials), *specials, strip_punctuation=False, words=False)


@dataclass(frozen=True)
class _TokenizerFile:
    """`tokenizer.json`; pieces in the order of their ids, merges with a space between their sides."""

    format: str
    words: bool
    size: int
    pieces: tuple[str, ...]
    merges: tuple[str, ...]
    specials: tuple[int, ...]
    bos: int
    pad: int
    eos: int
    unk: int
    strip_punctuation: bool


def from_json(data: Any, name: str = "tokenizer.json") -> Tokenizer:
    """The tokenizer of a parsed `tokenizer.json`, read strictly.

    Raises InputFileError for a missing, unknown or ill-typed key and for parts that do not fit.
    """
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        raise InputFileError(f"{name} is not a tokenizer of this version ({_FORMAT!r})")
    file = schema.decode(_TokenizerFile, data, name)
    if not 0 <= file.size <= MAX_PIECES:
        raise InputFileError(f"{name}: size is not a number from 0 to {MAX_PIECES}")
    if not file.words:
        tokenizer = ids_only(file.size, bos=file.bos, pad=file.pad, eos=file.eos, unk=file.unk)
        if tokenizer.to_json() != data:
            raise InputFileError(f"{name}: a tokenizer without words holds no pieces, merges or own specials")
        return tokenizer
    if file.size != len(file.pieces):
        raise InputFileError(f"{name}: size is {file.size}, but there are {len(file.pieces)} pieces")
    merges = tuple(parse_merge(line, name) for line in file.merges)
    ids = (file.bos, file.pad, file.eos, file.unk)
    return Tokenizer(file.pieces, merges, frozenset(file.specials), *ids, file.strip_punctuation)


def load(path: str | Path) -> Tokenizer:
    """The tokenizer of a file. Raises InputFileError when it is missing, too large or not sound."""
    return from_json(read_json(path), str(path))


def parse_merge(line: str, name: str) -> tuple[str, str]:
    """The two sides of one line of a merges file."""
    left, space, right = line.partition(" ")
    if not left or not right or not space or " " in right:
        raise InputFileError(f"{name}: {line[:40]!r} is not a merge of two pieces")
    return left, right
