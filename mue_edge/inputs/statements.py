"""Statements as OFA's entailment models read them. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from mue_edge.errors import UsageError
from mue_edge.inputs.tokens import Tokenizer

MAX_WORDS = 80
# Tokens of the text around a statement, where a model has no number of its own.
TEXT_LENGTH = 64
_LEADING = ",.!?*#:;~"
_AROUND = ".,:;!?()[]“”\"'"  # a word, in a sentence
_ARTICLES = r"(?<!\S)(?:an?|the)(?!\S) ?"
_BLANKS = str.maketrans({"-": " ", "/": " "})
STATEMENT, CAPTION = "{hypothesis}", "{caption}"
_FIELD = re.compile(r"\{[^{}]*\}")
WANTS_CAPTION = "this model was trained with a caption of the picture in the text"  # to who gave none


@dataclass(frozen=True)
class Template:
    """The source text of a model that judges statements, and what statements it was trained on.

    text: around a statement alone; with_caption: around a caption of the picture as well, of a model that was
    trained with them. articles_in: phrases in which "a", "an" and "the" stay; anywhere else they are dropped,
    as the training statements had none there; None: they stay everywhere. words: those of the training
    statements, with spaces between; empty: any word counts that the model's pieces spell.
    """

    text: str
    with_caption: str = ""
    articles_in: tuple[str, ...] | None = None
    words: str = ""

    def clean(self, statement: str) -> str:
        """The module's `clean` text and, where the model wants that, without articles, unless nothing else is
        left."""
        text = clean(statement)
        if self.articles_in is None:
            return text
        kept = "|".join(map(re.escape, self.articles_in))
        phrases = rf"((?<!\w)(?:{kept})(?!\w))|" if kept else "()"
        without_articles = re.sub(phrases + _ARTICLES, lambda match: match[1] or "", text)
        return without_articles.strip() or text

    @cached_property
    def known(self) -> frozenset[str]:
        """`words`, to look words up."""
        return frozenset(self.words.split())


def clean(statement: str) -> str:
    """Lower case, without leading punctuation, hyphens and slashes as spaces, at most 80 words."""
    text = statement.lower().lstrip(_LEADING).translate(_BLANKS).replace("<person>", "person")
    return " ".join(text.split()[:MAX_WORDS])


def vocabulary(statements: Iterable[str]) -> str:
    """The words of training statements, for `Template.words`."""
    return " ".join(sorted({word for text in statements for word in _words(clean(text))}))


def _words(text: str) -> list[str]:
    return [word for word in (part.strip(_AROUND) for part in text.split()) if word]


def field_problem(template: str, *fields: str) -> str:
    """What is wrong with the {fields} of a source text, which has to hold each of `fields` once and no other;
    "" where nothing is: a field that is never filled would be read as letters."""
    present = _FIELD.findall(template)
    for field in fields:
        if present.count(field) != 1:
            return f"{template!r} has to hold {field} once"
    for field in present:
        if field not in fields:
            known = " and ".join(fields) or "none"
            return f"{template!r} holds {field}, which nothing fills; known here: {known}"
    return ""


def field_problems(template: str, with_caption: str) -> str:
    """`misplaced` of both texts of a model that judges statements; `with_caption` may be empty."""
    return field_problem(template, STATEMENT) or (
        field_problem(with_caption, CAPTION, STATEMENT) if with_caption else ""
    )


def source_ids(template: Template, statement: str, tokenizer: Tokenizer, caption: str | None = None) -> tuple[int, ...]:
    """The source text of a statement as ids, bos … eos; pieces that the model lacks are unk.

    caption: of the picture; it is cleaned as statements are. Raises UsageError for a statement or a caption
    that is empty once it is cleaned, for a caption where there is no text for it, and for a field left open.
    """
    texts, around = {STATEMENT: statement}, template.text
    if caption is not None:
        if not template.with_caption:
            raise UsageError(
                "this model was not trained with captions, it reads statements alone: leave the caption out"
            )
        texts[CAPTION], around = caption, template.with_caption
    parts = {field: template.clean(text) for field, text in texts.items()}
    for field, what in ((STATEMENT, "statement"), (CAPTION, "caption")):
        if parts.get(field) == "":
            raise UsageError(f"the {what} {texts[field]!r} says nothing")
    problem = field_problem(around, *parts)
    if problem:
        raise UsageError(f"the source text {problem}")
    # In one pass, so that a statement which holds {caption} is read as it was written.
    text = _FIELD.sub(lambda field: parts[field[0]], around)
    return (tokenizer.bos, *tokenizer.encode(text), tokenizer.eos)


def check_length(ids: Sequence[int], length: int) -> None:
    """Raises UsageError for a source text longer than the `length` tokens that a bundle reads."""
    if len(ids) > length:
        raise UsageError(
            f"the text has {len(ids)} tokens, this bundle reads {length}; shorten the statement (and "
            f"caption), or make a bundle that reads more: mue-edge export MODEL --text-length {len(ids)}"
        )


def unknown_words(
    template: Template, statement: str, tokenizer: Tokenizer, caption: str | None = None
) -> tuple[str, ...]:
    """Words of a statement, and of a caption, that the model lacks: it has no pieces for them, or was trained
    on words that are known, and not on these."""

    def unspelt(text: str) -> bool:
        return tokenizer.unk in tokenizer.encode(f" {text}")

    words = dict[str, None]()
    for part in f"{template.clean(statement)} {template.clean(caption or '')}".split():
        for word in _words(part):
            # A piece may be known within quotes only, or without a mark that the model lacks.
            if word not in template.known if template.words else unspelt(part) and unspelt(word):
                words[word] = None
    return tuple(words)


def unknown_words_note(words: Sequence[str]) -> str:
    """What to tell whoever wrote `unknown` words; "" where there are none."""
    return f"the model has no words for {', '.join(words)}" if words else ""
