"""The table beside the pictures: a JSON object a line, what each picture's alt text is and where it is from.

It is what makes a second run free: a picture whose bytes are in the table is not captioned again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mue_edge import schema
from mue_edge.errors import InputFileError
from mue_edge.files import atomic_write
from mue_edge.reading import parse_json

MAX_BYTES = 256 << 20
MAX_ALT = 1000


@dataclass(frozen=True)
class TableEntry:
    """One picture. file: relative to the table's folder, with slashes. alt: "" is a caption without words.

    score: mean log-probability a token, of the model's own caption. exits: layers run, as in `Caption.exits`.
    policy, model: who wrote it, as policy and hash of the bundle's plan and model. edited: a person did.
    """

    file: str
    sha256: str
    alt: str
    score: float | None = None
    exits: Mapping[str, Any] | None = None
    policy: str = ""
    model: str = ""
    edited: bool = False


Table = dict[str, TableEntry]


def read(path: Path) -> Table:
    """Entries by file; none if there is no table yet. Raises InputFileError for what is no such table."""
    if not path.exists():
        return {}
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputFileError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError as problem:
        raise InputFileError(f"{path} cannot be read: {problem.strerror}") from problem
    table: Table = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                data = parse_json(line, where)
            except InputFileError as problem:
                raise InputFileError(f"{problem}; mend the line, or remove the table to start anew") from problem
            entry = schema.decode(TableEntry, data, where)
            table[entry.file] = entry
    return table


def write(path: Path, table: Table) -> None:
    """Replace the table as a whole, ordered by file; an equal one is left alone."""
    rows = (schema.encode(table[file]) for file in sorted(table))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    data = text.encode("utf-8", "surrogateescape")
    if not (path.is_file() and path.read_bytes() == data):
        atomic_write(path, data)


def clean(text: str) -> str:
    """Alt text as it is stored: one line, no control characters, at most MAX_ALT characters."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:MAX_ALT]
