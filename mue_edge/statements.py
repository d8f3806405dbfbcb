"""Statements as OFA's entailment models read them. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence

from mue_edge.errors import UsageError
from mue_edge.tokens import Tokenizer

MAX_WORDS = 80
_LEADING = ",.!?*#:;~"
_BLANKS = str.maketrans({"-": " ", "/": " "})
PLACE = "{hypothesis}"


def cleaned(statement: str) -> str:
    """Lower case, without leading punctuation, hyphens and slashes as spaces, at most 80 words."""
    text = statement.lower().lstrip(_LEADING).translate(_BLANKS).replace("<person>", "person")
    return " ".join(text.split()[:MAX_WORDS])


def ids_of(template: str, statement: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The source text of a statement as ids, bos … eos; pieces that the model lacks are unk.

    Raises UsageError for a statement that is empty once it is cleaned.
    """
    text = cleaned(statement)
    if not text:
        raise UsageError(f"the statement {statement!r} says nothing")
    return (tokenizer.bos, *tokenizer.encode(template.replace(PLACE, text)), tokenizer.eos)


def check_length(ids: Sequence[int], length: int) -> None:
    """Raises UsageError for a source text longer than the `length` tokens that a bundle reads."""
    if len(ids) > length:
        raise UsageError(
            f"the text has {len(ids)} tokens, this bundle reads {length}; shorten the statement, "
            f"or export with a plan whose text_length is {len(ids)}"
        )


def unknown(statement: str, tokenizer: Tokenizer) -> list[str]:
    """Words of a statement that the model has no pieces for."""
    return [word for word in cleaned(statement).split() if tokenizer.unk in tokenizer.encode(f" {word}")]


def note(statement: str, tokenizer: Tokenizer) -> str:
    """What to tell whoever wrote it: the words that the model lacks; "" where it has all."""
    lacking = unknown(statement, tokenizer)
    return f"the model has no words for {', '.join(lacking)}" if lacking else ""
