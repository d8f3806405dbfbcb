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
    options: what the plan takes from here unless it says otherwise.
    """

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
        """How a statement is asked about."""
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
    where, data = f"{path}: {task}", _entries(path).get(task)
    if data is None:
        raise InputFileError(
            f"{folder} holds no prompt for the task {task!r} in prompts.json; import the checkpoint with "
            "--tokenizer DIR"
        )
    if task == ENTAIL:
        return _statement(schema.decode(_Statement, data, where), text_length, where)
    if text_length is not None:
        raise UsageError("--text-length is of models that judge statements; this one reads a constant text")
    found = schema.decode(_Constant, data, where)
    _check_fields(field_problem(found.text), where)
    options = {} if found.max_length is None else {"max_length": found.max_length}
    return Prompt(found.text, found.ids, options=options, knows=found.knows)


def task_of(folder: Path) -> str:
    """What the model was trained for: captions, unless it only has another task's prompt."""
    known = tasks(folder)
    return CAPTION if CAPTION in known or not known else known[0]


def tasks(folder: Path) -> tuple[str, ...]:
    """The tasks that prompts.json has an entry for. Raises InputFileError for a damaged file."""
    return tuple(_entries(folder / "prompts.json"))


def _statement(found: _Statement, text_length: int | None, where: str) -> Prompt:
    length = found.text_length if text_length is None else text_length
    known = {"bos": (), "prev_output": (1, 1), "source": (1, 0), "statement": found.around}
    if found.decoder not in known:
        raise InputFileError(f"{where}: a decoder that reads {found.decoder!r}; known: {', '.join(known)}")
    fed = known[found.decoder]
    if found.decoder == "statement" and (len(fed) != 2 or min(fed) < 1 or sum(fed) >= length):
        raise InputFileError(
            f'{where}: a decoder that reads the statement needs "around": the ids before and after it, two '
            f"numbers that leave room in a text of {length}, not {list(fed)}"
        )
    if found.decoder == "statement" and found.with_caption:
        raise InputFileError(
            f'{where}: a decoder that reads the statement alone takes no caption ("around" counts the ids of '
            'one text only): leave out "with_caption", or let it read "prev_output"'
        )
    _check_fields(field_problems(found.template, found.with_caption), where)
    if any(len(a.ids) != 1 for a in found.answers.values()):
        raise InputFileError(f"{where} needs answers of one token each")
    answers = {word: answer.ids[0] for word, answer in found.answers.items()}
    steps = 1 + length - sum(fed) if fed else 1
    options = {"max_length": steps - 1, "min_length": 0, "no_repeat_ngram": 0, "text_length": length}
    more = found.with_caption, found.articles_in, found.words, found.knows
    return Prompt(found.template, None, answers, options, fed, *more)


def _check_fields(problem: str, where: str) -> None:
    if problem:
        raise InputFileError(f"{where}: the text {problem}; import the checkpoint again, or mend it there")


def _entries(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    data = read_json(path)
    return data if isinstance(data, dict) else {}
