"""GPT-2's byte-level BPE: its byte alphabet, its cut into words, and the merging within a word.

Standard library only.
"""

from __future__ import annotations

import heapq
import re
import unicodedata

_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
# The characters with Unicode's White_Space property: `str.isspace` has four more.
_SPACES = frozenset("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | frozenset(
    chr(c) for c in range(0x2000, 0x200B)
)
# GPT-2's pattern over character classes: L letter, N number, O other, S space but for " " itself.
_RUN = re.compile(r" ?L+| ?N+| ?O+|[ S]+(?![^ S])|[ S]+")


def _byte_alphabet() -> str:
    """The stand-in of every byte: itself where printable, else the next one from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return "".join(chr(b if b in printable else next(others)) for b in range(256))


ALPHABET = _byte_alphabet()
BYTES = {char: byte for byte, char in enumerate(ALPHABET)}


def split(text: str) -> list[str]:
    r"""Cut a text as GPT-2 does; the parts add up to the text.

    The pattern is `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
    Letters and numbers are those of Python's Unicode tables.
    """
    classes = "".join(map(_char_class, text))
    words, start = [], 0
    while start < len(text):
        end = next((start + len(c) for c in _CONTRACTIONS if text.startswith(c, start)), start)
        if end == start:
            match = _RUN.match(classes, start)
            assert match is not None  # every class starts one of the alternatives
            end = match.end()
        words.append(text[start:end])
        start = end
    return words


def _char_class(char: str) -> str:
    if char in _SPACES:
        return " " if char == " " else "S"
    major = unicodedata.category(char)[0]
    return major if major in "LN" else "O"


def apply_merges(symbols: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding of one word: the best pair is merged wherever it stands, then the next best.

    A heap over positions in a linked list: n log n, so that a long word cannot stall a device.
    """
    count = len(symbols)
    after, before = list(range(1, count + 1)), list(range(-1, count - 1))
    heap: list[tuple[int, int]] = []

    def consider(i: int) -> None:
        if i >= 0 and symbols[i] and after[i] < count:
            rank = ranks.get((symbols[i], symbols[after[i]]))
            if rank is not None:
                heapq.heappush(heap, (rank, i))

    for i in range(count - 1):
        consider(i)
    while heap:
        rank, changed = heap[0][0], []
        # All places of one pair, from the left, before any pair that they give rise to.
        while heap and heap[0][0] == rank:
            i = heapq.heappop(heap)[1]
            j = after[i]
            if not symbols[i] or j >= count or ranks.get((symbols[i], symbols[j])) != rank:
                continue
            symbols[i] += symbols[j]
            symbols[j] = ""
            after[i] = after[j]
            if after[i] < count:
                before[after[i]] = i
            changed += [before[i], i]
        for i in changed:
            consider(i)
    return [symbol for symbol in symbols if symbol]
