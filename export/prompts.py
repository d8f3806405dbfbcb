"""What a model is asked: a task's text of a model folder's `prompts.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mue_edge import schema
from mue_edge.errors import InputFileError, UsageError
from mue_edge.inputs.statements import TEXT_LENGTH, Template, field_problem, field_problems
from mue_edge.reading import read_json

CAPTION, ENTAIL = "caption", "entail"


@dataclass(frozen=True)
class Prompt:
    """The source text and its ids; None: the text stands around {hypothesis}, which comes with the picture.

    with_caption, articles_in, words: see `statements.Template`. knows: what little the model was trained on.
    answers: word → id, where one is chosen; fed: what the decoder reads before that (`SearchSettings.fed`).
    options: what the plan takes from here unless it says otherwise."""

    text: str
    ids: tuple[int, ...] | None
    answers: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    fed: tuple[int, ...] = ()
    with_caption: str = ""
    articles_in: tuple[str, ...] | None = None
    words: str = ""
    knows: str = ""

    @property
    def template(self) -> Template:
        return Template(self.text, self.with_caption, self.articles_in, self.words)


@dataclass(frozen=True)
class _Constant:
    text: str
    ids: tuple[int, ...]
    max_length: int | None = None
    knows: str = ""


@dataclass(frozen=True)
class _Answer:
    ids: tuple[int, ...]
    means: str = ""


@dataclass(frozen=True)
class _Statement:
    """`decoder`: what it reads before the answer: "bos", "prev_output": bos and the source text,
    "source": the same with eos at its end, or "statement": bos and the statement alone, with `around` ids of
    the source text before and after it."""

    template: str
    answers: Mapping[str, _Answer]
    decoder: str = "prev_output"
    around: tuple[int, ...] = ()
    text_length: int = TEXT_LENGTH
    with_caption: str = ""
    articles_in: tuple[str, ...] | None = None
    words: str = ""
    knows: str = ""


def read_prompt(folder: Path, task: str, text_length: int | None = None) -> Prompt:
    """The prompt of a task from prompts.json, for texts of `text_length` tokens if it is given, else of as
    many as stand there. Raises InputFileError when there is none, UsageError for a length that has no effect.
    """
    path = folder / "prompts.json"
    where, entry = f"{path}: {task}", _entries(path).get(task)
    if entry is None:
        raise InputFileError(
            f"{folder} holds no prompt for the task {task!r} in prompts.json; import the checkpoint with "
            "--tokenizer DIR"
        )
    if task == ENTAIL:
        return _statement(schema.decode(_Statement, entry, where), text_length, where)
    if text_length is not None:
        raise UsageError("--text-length is of models that judge statements; this one reads a constant text")
    constant = schema.decode(_Constant, entry, where)
    _check_fields(field_problem(constant.text), where)
    options = {} if constant.max_length is None else {"max_length": constant.max_length}
    return Prompt(constant.text, constant.ids, options=options, knows=constant.knows)


def task_of(folder: Path) -> str:
    """What the model was trained for: captions, unless it only has another task's prompt."""
    known = tasks(folder)
    return CAPTION if CAPTION in known or not known else known[0]


def tasks(folder: Path) -> tuple[str, ...]:
    """The tasks that prompts.json has an entry for. Raises InputFileError for a damaged file."""
    return tuple(_entries(folder / "prompts.json"))


def _statement(entry: _Statement, text_length: int | None, where: str) -> Prompt:
    length = entry.text_length if text_length is None else text_length
    known = {"bos": (), "prev_output": (1, 1), "source": (1, 0), "statement": entry.around}
    if entry.decoder not in known:
        raise InputFileError(f"{where}: a decoder that reads {entry.decoder!r}; known: {', '.join(known)}")
    fed = known[entry.decoder]
    if entry.decoder == "statement" and (len(fed) != 2 or min(fed) < 1 or sum(fed) >= length):
        raise InputFileError(
            f'{where}: a decoder that reads the statement needs "around": the ids before and after it, two '
            f"numbers that leave room in a text of {length}, not {list(fed)}"
        )
    if entry.decoder == "statement" and entry.with_caption:
        raise InputFileError(
            f'{where}: a decoder that reads the statement alone takes no caption ("around" counts the ids of '
            'one text only): leave out "with_caption", or let it read "prev_output"'
        )
    _check_fields(field_problems(entry.template, entry.with_caption), where)
    if any(len(answer.ids) != 1 for answer in entry.answers.values()):
        raise InputFileError(f"{where} needs answers of one token each")
    answers = {word: answer.ids[0] for word, answer in entry.answers.items()}
    steps = length - sum(fed) if fed else 0
    options = {"max_length": steps, "min_length": 0, "no_repeat_ngram": 0, "text_length": length}
    texts = {name: getattr(entry, name) for name in ("with_caption", "articles_in", "words", "knows")}
    return Prompt(entry.template, None, answers, options, fed, **texts)


def _check_fields(problem: str, where: str) -> None:
    if problem:
        raise InputFileError(f"{where}: the text {problem}; import the checkpoint again, or mend it there")


def _entries(path: Path) -> dict[str, Any]:
    entries = read_json(path) if path.is_file() else {}
    return entries if isinstance(entries, dict) else {}
