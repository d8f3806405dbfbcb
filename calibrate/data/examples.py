"""Pictures with captions that people wrote, from the files in which they come.

| format | what it is |
|---|---|
| folder | a folder of pictures with one table (csv, tsv, jsonl or COCO json) in it |
| csv, tsv | with a header: the columns image and caption; rows of one picture are several captions |
| jsonl | an object a line: image, and caption as a text or a list of texts |
| coco | COCO's captions_*.json: images (id, file_name), annotations (image_id, caption) |
| ofa | OFA's table without header: id, image id, captions joined by &&, labels, picture in base64 |

Tables and lines may have a `cluster`: pictures of one cluster (a scene, a film) count as one draw in
statistics. Pictures are named relative to `images`, by default the table's own folder. Only tables are read
here; `Example.picture` is opened when it is needed.
"""

from __future__ import annotations

import csv
import io
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mue_edge.calibrate.data.embedded import EmbeddedPicture, rows_of
from mue_edge.errors import InputFileError, UsageError
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.reading import is_file, parse_json

MAX_TABLE_BYTES = 4 << 30
TABLES = (".csv", ".tsv", ".jsonl", ".json")
_FORMATS_BY_SUFFIX = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "coco"}
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SHOWN = 200  # characters of a picture's name in an error
_LISTED = 10  # bad places that an error names, of those that it counts


@dataclass(frozen=True)
class Example:
    """A picture and its captions; `where` is the table and line that name it, `cluster` what it was drawn
    with (its own id if the data does not say)."""

    id: str
    picture: Path | EmbeddedPicture
    captions: tuple[str, ...]
    where: str
    cluster: str = ""


def read(path: str | Path, *, kind: str | None = None, images: str | Path | None = None) -> list[Example]:
    """The examples of a data set, pictures in order of first mention.

    `kind` forces a format. Raises InputFileError, which names file and line, for a table that is
    missing, is of no known format, or has empty captions.
    """
    path = Path(path)
    if not path.exists():
        raise InputFileError(f"{path} does not exist; a data set is {', '.join(FORMATS)}")
    if kind is not None and kind not in FORMATS:
        raise UsageError(f"no format {kind!r}; known formats: {', '.join(FORMATS)}")
    if path.is_dir():
        if kind not in (None, "folder"):
            raise UsageError(f"{path} is a folder, not a {kind} table")
        path, kind = _table_in(path), None
    kind = recognise(path) if kind in (None, "folder") else kind
    if path.stat().st_size > MAX_TABLE_BYTES and kind != "ofa":
        raise InputFileError(f"{path} is larger than {MAX_TABLE_BYTES >> 30} GB")
    examples = _merged(_READERS[str(kind)](path, Path(images) if images else path.parent))
    if not examples:
        raise InputFileError(f"{path} has no captions")
    return examples


def reference_text(tokenizer: Tokenizer, caption: str) -> str:
    """A reference as the model would write it: lower case, and without punctuation if it writes none."""
    text = caption.lower()
    return " ".join((text.translate(_NO_PUNCTUATION) if tokenizer.strip_punctuation else text).split())


def recognise(path: Path) -> str:
    """The format of a table, by its suffix and, for .tsv and .json, its first line or keys."""
    suffix = path.suffix.lower()
    if suffix in _FORMATS_BY_SUFFIX:
        return _FORMATS_BY_SUFFIX[suffix]
    if suffix in (".tsv", ".txt"):
        with path.open("rb") as file:
            first = file.readline(1 << 16)
        names = first.lstrip(b"\xef\xbb\xbf").rstrip(b"\r\n").split(b"\t")
        return "ofa" if len(names) == 5 and not {b"image", b"caption"} <= set(names) else "tsv"
    raise InputFileError(f"{path}: the format cannot be told from its name; give --format {'|'.join(sorted(_READERS))}")


def without_missing(examples: list[Example], *, skip: bool = False) -> tuple[list[Example], list[str]]:
    """The examples whose picture file is there, and a line for each other one.

    Raises InputFileError naming the first missing ones unless `skip`, or when none is left.
    """
    missing = [e for e in examples if isinstance(e.picture, Path) and not is_file(e.picture)]
    lines = [f"{e.where}: the picture {str(e.picture)[:_SHOWN]} is not there" for e in missing]
    if missing and (not skip or len(missing) == len(examples)):
        raise InputFileError(
            f"{len(missing)} of {len(examples)} pictures are missing: {listed(lines)}. "
            "Name their folder with --images, or leave them out with --skip-bad"
        )
    gone = {id(e) for e in missing}
    return [e for e in examples if id(e) not in gone], lines


def listed(problems: Sequence[str]) -> str:
    """The first few in one line, and how many more there are."""
    more = f" (and {len(problems) - _LISTED} more)" if len(problems) > _LISTED else ""
    return "; ".join(problems[:_LISTED]) + more


def _table_in(folder: Path) -> Path:
    tables = sorted(p for p in folder.iterdir() if p.suffix.lower() in TABLES and p.is_file())
    if len(tables) != 1:
        found = ", ".join(p.name for p in tables[:5]) or "none"
        raise InputFileError(
            f"{folder} should hold one table of captions ({', '.join(TABLES)}); it holds {found}. "
            "Name the table itself, with --images FOLDER where the pictures are elsewhere"
        )
    return tables[0]


def _merged(parts: Iterator[Example]) -> list[Example]:
    """One example a picture, of examples that each have some of its captions."""
    first: dict[str, Example] = {}
    captions: dict[str, list[str]] = {}
    empty: list[str] = []
    for part in parts:
        for text in (" ".join(caption.split()) for caption in part.captions):
            if not text:
                empty.append(f"{part.where}: the caption is empty")
                continue
            known = first.setdefault(part.id, part)
            if not _same(known.picture, part.picture):
                raise InputFileError(f"{part.where}: another picture of the id {part.id[:60]!r} than {known.where}")
            captions.setdefault(part.id, []).append(text)
    if empty:
        count = len(empty) + sum(map(len, captions.values()))
        raise InputFileError(f"{len(empty)} of {count} captions are empty: {listed(empty)}")
    return [replace(part, captions=tuple(captions[name]), cluster=part.cluster or name) for name, part in first.items()]


def _same(one: Path | EmbeddedPicture, other: Path | EmbeddedPicture) -> bool:
    """Whether two mentions can be one picture; of embedded ones only lengths are compared."""
    if isinstance(one, EmbeddedPicture) and isinstance(other, EmbeddedPicture):
        return one.length == other.length
    return one == other


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = path.read_bytes()[: problem.start].count(b"\n") + 1
        raise InputFileError(f"{path}, line {line}: not UTF-8 text") from problem
    except OSError as problem:
        raise InputFileError(f"{path} cannot be read: {problem.strerror}") from problem


def _delimited(path: Path, images: Path, delimiter: str) -> Iterator[Example]:
    # Tabs need no quotes: a quote in a table of tabs is text.
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    text = io.StringIO(_text(path), newline="")
    table = csv.reader(text, delimiter=delimiter, quoting=quoting, strict=True)
    header: list[str] = []
    try:
        for cells in table:
            where = f"{path}, line {table.line_num}"
            if not header:
                header = [name.strip() for name in cells]
                _check_header(header, where)
            elif len(cells) != len(header) and any(cells):
                raise InputFileError(f"{where}: {len(cells)} columns, the header has {len(header)}")
            elif any(cells):
                row = dict(zip(header, cells))
                picture = _picture(row["image"], images, where)
                yield Example(row["image"], picture, (row["caption"],), where, row.get("cluster", ""))
    except csv.Error as problem:
        raise InputFileError(f"{path}, line {table.line_num}: {problem}") from problem


def _check_header(header: list[str], where: str) -> None:
    if lacking := {"image", "caption"} - set(header):
        raise InputFileError(
            f"{where}: no column {' and '.join(sorted(lacking))}; the header has {', '.join(header)[:200]}"
        )
    if twice := [name for name in ("image", "caption") if header.count(name) > 1]:
        raise InputFileError(f"{where}: more than one column {twice[0]}")


def _picture(name: Any, images: Path, where: str) -> Path:
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise InputFileError(f"{where}: {str(name)[:60]!r} names no picture")
    return images / name


def json_objects(path: Path, text: str, keys: tuple[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where it stands and the object, of every line that is not empty. Raises InputFileError for a line
    that is no object with these keys."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        row = parse_json(line, where)
        if not isinstance(row, dict) or not set(keys) <= set(row):
            raise InputFileError(f"{where}: not an object with {' and '.join(keys)}")
        yield where, row


def _json_lines(path: Path, images: Path) -> Iterator[Example]:
    for where, row in json_objects(path, _text(path), ("image", "caption")):
        captions = row["caption"] if isinstance(row["caption"], list) else [row["caption"]]
        if not captions or not all(isinstance(text, str) for text in captions):
            raise InputFileError(f"{where}: caption is neither a text nor a list of texts")
        picture, cluster = _picture(row["image"], images, where), row.get("cluster", "")
        if not isinstance(cluster, str):
            raise InputFileError(f"{where}: cluster is no text")
        yield Example(row["image"], picture, tuple(captions), where, cluster)


def _coco(path: Path, images: Path) -> Iterator[Example]:
    data = parse_json(_text(path), str(path))
    lists = ("images", "annotations")
    if not isinstance(data, dict) or not all(isinstance(data.get(name), list) for name in lists):
        raise InputFileError(f"{path}: no COCO captions: an object with the lists images and annotations")
    files: dict[Any, Path] = {}
    for i, entry in enumerate(data["images"]):
        where = f"{path}, images[{i}]"
        if not isinstance(entry, dict) or type(entry.get("id")) not in (int, str):
            raise InputFileError(f"{where}: no object with an id")
        if entry["id"] in files:
            raise InputFileError(f"{where}: the id {str(entry['id'])[:60]!r} stands there twice")
        files[entry["id"]] = _picture(entry.get("file_name"), images, where)
    for i, entry in enumerate(data["annotations"]):
        where = f"{path}, annotations[{i}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("caption"), str):
            raise InputFileError(f"{where}: no object with a caption")
        picture = entry.get("image_id")
        if type(picture) not in (int, str) or picture not in files:
            raise InputFileError(f"{where}: image_id {str(picture)[:60]!r} is not among the images")
        yield Example(str(picture), files[picture], (entry["caption"],), where)


def _ofa(path: Path, _images: Path) -> Iterator[Example]:
    for image_id, captions, picture in rows_of(path):
        yield Example(image_id, picture, tuple(captions.split("&&")), picture.where)


_READERS: dict[str, Callable[[Path, Path], Iterator[Example]]] = {
    "csv": partial(_delimited, delimiter=","),
    "tsv": partial(_delimited, delimiter="\t"),
    "jsonl": _json_lines,
    "coco": _coco,
    "ofa": _ofa,
}
FORMATS = ("folder", *_READERS)
