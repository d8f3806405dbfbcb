"""Pictures with statements about them, from a table: what entailment is calibrated on.

| format | what it is |
|---|---|
| csv, tsv | with a header: the columns image and hypothesis |
| jsonl | an object a line: image, hypothesis |

Both may have `label` (yes, no or maybe: the model's answers, or what they mean, like entailment),
`cluster`: statements of one cluster count as one draw in statistics; by default those about one picture; and
`caption`: one of the picture, for a model that was trained with them (empty: the statement alone is read).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mue_edge.calibrate.data.examples import json_objects
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.traces.tracing import Sample
from mue_edge.errors import InputFileError, UsageError
from mue_edge.inputs.statements import WANTS_CAPTION, Template, source_ids, unknown_words, unknown_words_note
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.reading import read_text

SHOWN = 8  # words that the model lacks
# How SNLI-VE and its like name the answers.
MEANINGS = {"entailment": "yes", "contradiction": "no", "neutral": "maybe"}


@dataclass(frozen=True)
class StatementVocabulary:
    """The text around a statement, the answers, and the tokenizer of a model that judges statements."""

    template: Template
    answers: Sequence[str]
    tokenizer: Tokenizer


def read(
    path: Path,
    vocabulary: StatementVocabulary,
    images: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Samples:
    """The statements of a table; labels become references, if every line has one.

    `say` gets notes: lines that have no caption where the model was trained with them, and words that it
    lacks. Raises InputFileError, which names file and line, for a table that does not fit.
    """
    template, tokenizer = vocabulary.template, vocabulary.tokenizer
    folder, samples, clusters, labels = images or path.parent, [], [], []
    bare, lacking = 0, dict[str, None]()
    for where, row in _rows(path):
        picture, hypothesis = _text(row, "image", where), _text(row, "hypothesis", where)
        caption = None if row.get("caption") in (None, "") else _text(row, "caption", where)
        try:
            source = source_ids(template, hypothesis, tokenizer, caption)
        except UsageError as problem:
            raise InputFileError(f"{where}: {problem}") from problem
        bare += caption is None
        lacking |= dict.fromkeys(unknown_words(template, hypothesis, tokenizer, caption))
        name = "|".join(part for part in (picture, hypothesis, caption) if part)
        samples.append(Sample(name, folder / picture, source))
        clusters.append(str(row.get("cluster") or picture))
        labels.append(_label(row.get("label"), vocabulary.answers, where))
    if not samples:
        raise InputFileError(f"{path} has no statements")
    if len({sample.id for sample in samples}) < len(samples):
        raise InputFileError(f"{path}: a statement about a picture stands there twice")
    if template.with_caption and bare:
        say(
            f"note: {WANTS_CAPTION}; {path}: {bare} of {len(samples)} lines have none (column caption), so "
            "only the statement is read there"
        )
    if lacking:
        more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
        say(f"note: {path}: {unknown_words_note(list(lacking)[:SHOWN])}{more}")
    if any(labels) and not all(labels):
        raise InputFileError(f"{path}: {labels.count('')} of {len(labels)} lines have no label")
    references = tuple((label,) for label in labels) if any(labels) else None
    return Samples(path.name, tuple(samples), tuple(clusters), references)


def _label(value: object, answers: Sequence[str], where: str) -> str:
    if value in (None, ""):
        return ""
    label = MEANINGS.get(str(value), str(value))
    if label not in answers:
        raise InputFileError(f"{where}: the label {value!r} is none of {', '.join(answers)}")
    return label


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise InputFileError(
            f"{where}: {name} is {str(value)[:60]!r}, which is no text; a line needs image and hypothesis"
        )
    return value


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    text, suffix = read_text(path), path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        yield from json_objects(path, text, ("image", "hypothesis"))
    elif suffix in (".csv", ".tsv"):
        delimiter = "\t" if suffix == ".tsv" else ","
        table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        for row in table:
            yield f"{path}, line {table.line_num}", row
    else:
        raise InputFileError(f"{path}: statements are read from .jsonl, .csv and .tsv")
