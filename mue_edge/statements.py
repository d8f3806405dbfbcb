"""Statements as OFA's entailment models read them. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mue_edge.errors import UsageError
from mue_edge.tokens import Tokenizer

MAX_WORDS = 80
# Tokens of the text around a statement, where a model has no number of its own.
TEXT_LENGTH = 64
_LEADING = ",.!?*#:;~"
_BLANKS = str.maketrans({"-": " ", "/": " "})
PLACE, CAPTION = "{hypothesis}", "{caption}"
_FIELD = re.compile(r"\{[^{}]*\}")
WANTS_CAPTION = "this model was trained with a caption of the picture in the text"  # to who gave none


def cleaned(statement: str) -> str:
    """Lower case, without leading punctuation, hyphens and slashes as spaces, at most 80 words."""
    text = statement.lower().lstrip(_LEADING).translate(_BLANKS).replace("<person>", "person")
    return " ".join(text.split()[:MAX_WORDS])


def misplaced(template: str, *fields: str) -> str:
    """What is wrong with the {fields} of a source text, which has to hold each of `fields` once and no other;
    "" where nothing is: a field that is never filled would be read as letters."""
    found = _FIELD.findall(template)
    for field in fields:
        if found.count(field) != 1:
            return f"{template!r} has to hold {field} once"
    open_ones = [field for field in found if field not in fields]
    known = " and ".join(fields) or "none"
    return f"{template!r} holds {open_ones[0]}, which nothing fills; known here: {known}" if open_ones else ""


def misplaced_of(template: str, with_caption: str) -> str:
    """`misplaced` of both texts of a model that judges statements; `with_caption` may be empty."""
    return misplaced(template, PLACE) or (misplaced(with_caption, CAPTION, PLACE) if with_caption else "")


def ids_of(
    template: str, statement: str, tokenizer: Tokenizer, caption: str | None = None, with_caption: str = ""
) -> tuple[int, ...]:
    """The source text of a statement as ids, bos … eos; pieces that the model lacks are unk.

    template: the text around a statement alone; with_caption: the one that is filled where a caption of the
    picture is given, which is cleaned as statements are. Raises UsageError for a statement or a caption that
    is empty once it is cleaned, for a caption where there is no text for it, and for a field left open.
    """
    parts = {PLACE: _said("statement", statement)}
    if caption is not None:
        if not with_caption:
            raise UsageError(
                "this model was not trained with captions, it reads statements alone: leave the caption out"
            )
        parts[CAPTION], template = _said("caption", caption), with_caption
    problem = misplaced(template, *parts)
    if problem:
        raise UsageError(f"the source text {problem}")
    # In one pass, so that a statement which holds {caption} is read as it was written.
    text = _FIELD.sub(lambda field: parts[field[0]], template)
    return (tokenizer.bos, *tokenizer.encode(text), tokenizer.eos)


def _said(what: str, text: str) -> str:
    found = cleaned(text)
    if not found:
        raise UsageError(f"the {what} {text!r} says nothing")
    return found


def check_length(ids: Sequence[int], length: int) -> None:
    """Raises UsageError for a source text longer than the `length` tokens that a bundle reads."""
    if len(ids) > length:
        raise UsageError(
            f"the text has {len(ids)} tokens, this bundle reads {length}; shorten the statement (and "
            f"caption), or make a bundle that reads more: mue-edge export MODEL --text-length {len(ids)}"
        )


def unknown(statement: str, tokenizer: Tokenizer) -> list[str]:
    """Words of a statement that the model has no pieces for."""
    return [word for word in cleaned(statement).split() if tokenizer.unk in tokenizer.encode(f" {word}")]


def note(statement: str, tokenizer: Tokenizer, caption: str | None = None) -> str:
    """What to tell whoever wrote it: the words that the model lacks; "" where it has all."""
    lacking = dict.fromkeys([*unknown(statement, tokenizer), *unknown(caption or "", tokenizer)])
    return f"the model has no words for {', '.join(lacking)}" if lacking else ""
