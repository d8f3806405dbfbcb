"""OFA's vocabulary from the files that people have: fairseq's BPE folder, or a Hugging Face one.

fairseq: `encoder.json` and `vocab.bpe` are GPT-2's; `dict.txt` lists GPT-2 ids as text, and OFA's id
of a piece is 4 plus its line. `<mask>`, `<code_i>` and `<bin_i>` follow. Hugging Face: `vocab.json`
maps the pieces straight to OFA's ids.
"""

from __future__ import annotations

import re
from pathlib import Path

from mue_edge.errors import InputFileError
from mue_edge.inputs.tokens import MAX_PIECES, Tokenizer, parse_merge
from mue_edge.reading import read_json, read_text

FAIRSEQ = ("dict.txt", "encoder.json", "vocab.bpe")
HUGGING_FACE = ("vocab.json", "merges.txt")
WHERE = (
    "a tokenizer folder holds dict.txt, encoder.json and vocab.bpe (in a checkout of OFA: utils/BPE), "
    "or vocab.json and merges.txt (a Hugging Face OFA folder)"
)

_NAMES = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3
_CODES, _BINS = 8192, 1000
_WITHOUT_TEXT = re.compile(r"</?s>|<pad>|<unk>|<mask>|<(code|bin)_\d+>|<\|endoftext\|>|madeupword\d+")
_NUMBER = re.compile(r"[0-9]{1,9}")


def read(
    folder: str | Path, vocab_size: int, *, codes: int | None = None, bins: int | None = None
) -> tuple[Tokenizer, list[str]]:
    """The tokenizer of a folder for a model of `vocab_size` ids, and notes for the user.

    `codes`, `bins`: how many image codes and coordinate bins follow the words, where that is known
    (OFA's released models: 8192 and 1000). Raises InputFileError when a file is missing or damaged,
    or when the dictionary is larger than the model.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputFileError(f"{folder} is not a folder; {WHERE}")
    if all((folder / name).is_file() for name in HUGGING_FACE):
        return _hugging_face(folder, vocab_size)
    missing = [name for name in FAIRSEQ if not (folder / name).is_file()]
    if missing:
        raise InputFileError(f"{folder} lacks {', '.join(missing)}; {WHERE}")
    return _fairseq(folder, vocab_size, codes, bins)


def _fairseq(folder: Path, size: int, codes: int | None, bins: int | None) -> tuple[Tokenizer, list[str]]:
    by_number = {number: piece for piece, number in _vocabulary(folder / "encoder.json").items()}
    pieces = list(_NAMES)
    fillers = set()
    for number, line in enumerate(_lines(folder / "dict.txt"), start=1):
        symbol, space, count = line.rpartition(" ")
        if not space or not count.isdecimal():
            raise InputFileError(f"{folder / 'dict.txt'}, line {number}: {line[:40]!r} is not 'symbol count'")
        if not _NUMBER.fullmatch(symbol):  # fairseq rounds a dictionary up with "madeupword0000"
            fillers.add(len(pieces))
            pieces.append(symbol)
        elif int(symbol) in by_number:
            pieces.append(by_number[int(symbol)])
        else:
            raise InputFileError(f"{folder / 'dict.txt'}, line {number}: encoder.json has no id {symbol}")
    words = len(pieces)
    pieces.append("<mask>")
    pieces += [f"<code_{i}>" for i in range(_CODES if codes is None else codes)]
    pieces += [f"<bin_{i}>" for i in range(_BINS if bins is None else bins)]
    exact = codes is not None and bins is not None
    if words > size or (exact and len(pieces) > size):
        raise InputFileError(
            f"{folder}: the dictionary has {len(pieces) if exact else words} entries, but the model only "
            f"{size}; this is not its dictionary"
        )
    notes = []
    if len(pieces) != size:
        notes.append(
            f"the dictionary's {words} entries, <mask>, codes and bins make {len(pieces)} ids, the model has "
            f"{size}: if this is not the dictionary that it was trained with, its captions will be wrong"
        )
    pieces = [*pieces[:size], *(f"<unused_{i}>" for i in range(size - len(pieces)))]
    return _tokenizer(pieces, folder / "vocab.bpe", words, fillers), notes


def _hugging_face(folder: Path, size: int) -> tuple[Tokenizer, list[str]]:
    ids = _vocabulary(folder / "vocab.json")
    added = _vocabulary(folder / "added_tokens.json") if (folder / "added_tokens.json").is_file() else {}
    if twice := set(ids.values()) & {i for name, i in added.items() if ids.get(name) != i}:
        raise InputFileError(f"{folder}: vocab.json and added_tokens.json both use id {min(twice)}")
    by_id = {i: name for name, i in (ids | added).items()}
    if max(by_id) >= size:
        raise InputFileError(
            f"{folder}: the vocabulary has id {max(by_id)}, but the model only {size} ids; this is not its vocabulary"
        )
    for i, name in enumerate(_NAMES):
        if by_id.get(i) != name:
            raise InputFileError(f"{folder}: id {i} is {by_id.get(i)!r}; OFA has {name!r} there")
    # Added tokens and the ids without a name are no words: they have no text.
    words = max(i for i in ids.values() if i not in added.values()) + 1
    pieces = [by_id.get(i, f"<unused_{i}>") for i in range(size)]
    unused = set(range(size)) - set(by_id)
    return _tokenizer(pieces, folder / "merges.txt", words, unused | set(added.values())), []


def _tokenizer(pieces: list[str], merges: Path, words: int, without_text: set[int]) -> Tokenizer:
    """Specials are the ids without text, all from `words` on, and what is no word by its name."""
    specials = {i for i, piece in enumerate(pieces) if i >= words or _WITHOUT_TEXT.fullmatch(piece)}
    lines = _lines(merges)
    if lines and lines[0].startswith("#version"):
        del lines[0]
    return Tokenizer(
        tuple(pieces), tuple(parse_merge(line, str(merges)) for line in lines), frozenset(specials | without_text)
    )


def _vocabulary(path: Path) -> dict[str, int]:
    """Piece → id of a JSON file, each id once."""
    data = read_json(path)
    if not isinstance(data, dict) or not all(type(i) is int and 0 <= i < MAX_PIECES for i in data.values()):
        raise InputFileError(f"{path} does not map pieces to ids")
    if len(set(data.values())) != len(data):
        raise InputFileError(f"{path}: two pieces have the same id")
    if not data and path.name != "added_tokens.json":
        raise InputFileError(f"{path} is empty")
    return data


def _lines(path: Path) -> list[str]:
    """Lines without their ends; only a newline ends one (pieces hold odd characters)."""
    return [line.rstrip("\r") for line in read_text(path).split("\n") if line.strip()]
