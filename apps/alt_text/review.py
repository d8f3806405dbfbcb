"""The review page: each picture with its alt text to correct, in one file without network; and reading back.

The page saves its corrections as a small JSON file; `read_edits` checks it, `apply` brings it into a table.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mue_edge import schema
from mue_edge.apps.alt_text.table import MAX_ALT, Table, TableEntry, clean
from mue_edge.calibrate.report.report_page import Html, document, picture, tag
from mue_edge.errors import InputFileError
from mue_edge.inputs import image
from mue_edge.reading import read_json

SIDE = 160
MAX_EDITS_BYTES = 64 << 20
KIND = "mue-edge alt text 1"
# Nothing but what is in the page itself: no request can leave it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class Edit:
    """What a person says of the picture with these bytes."""

    sha256: str
    alt: str


@dataclass(frozen=True)
class Edits:
    """The file that the page saves; `kind` says that it is one."""

    kind: str
    edits: tuple[Edit, ...]


def page(title: str, table: Table, pictures: Mapping[str, Path], next_command: str) -> str:
    """The review page of a table's entries whose picture is there; those that the model was least sure of
    come first, each kind of bytes once."""
    by_hash: dict[str, TableEntry] = {}
    for entry in table.values():
        if entry.file in pictures:
            by_hash.setdefault(entry.sha256, entry)
    ordered = sorted(by_hash.values(), key=lambda e: (e.edited, e.score is not None and e.score, e.file))
    script, style = (Path(__file__).with_name(f"review.{kind}").read_text("utf-8") for kind in ("js", "css"))
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    intro = f"{len(ordered)} pictures, those first that the model was least sure of. Correct what is wrong, save,"
    save = tag("button", "Save corrections", type="button", id="save")
    return document(
        title,
        tag("h1", title),
        tag("p", f"{intro} and bring the file back with:"),
        tag("pre", tag("code", next_command)),
        tag("ul", *(_card(i, e, pictures[e.file]) for i, e in enumerate(ordered)), class_="review"),
        tag("p", save, tag("span", "Nothing is changed yet.", id="state", role="status"), class_="save"),
        tag("noscript", tag("p", "Without scripts this page cannot save corrections.")),
        Html(f'<script data-kind="{KIND}">\n{script}</script>'),
        head=Html(f"{policy}\n<style>\n{style}</style>"),
    )


def read_edits(path: Path) -> tuple[Edit, ...]:
    """Corrections that the page saved. Raises InputFileError for everything else."""
    saved = schema.decode(Edits, read_json(path, MAX_EDITS_BYTES), str(path))
    if saved.kind != KIND:
        raise InputFileError(f"{path} is of kind {saved.kind!r}; what the review page saves is {KIND!r}")
    return saved.edits


def apply(edits: tuple[Edit, ...], table: Table) -> tuple[Table, int]:
    """The table with a person's words, and how many of the edits concern no picture of it."""
    words = {edit.sha256: clean(edit.alt) for edit in edits}
    changed = {
        file: replace(entry, alt=words[entry.sha256], edited=True) if entry.sha256 in words else entry
        for file, entry in table.items()
    }
    return changed, len(set(words) - {entry.sha256 for entry in table.values()})


def _card(number: int, entry: TableEntry, path: Path) -> Html:
    name, field = entry.file.encode("utf-8", "replace").decode(), f"alt-{number}"
    note = "" if entry.score is None else f"score {entry.score}"
    note = "written by a person" if entry.edited else note
    area = tag("textarea", entry.alt, id=field, rows="2", maxlength=str(MAX_ALT), data_sha256=entry.sha256)
    inner = tag("label", f"Alt text of {name}", for_=field), area, tag("span", note)
    return tag("li", _thumbnail(path), tag("div", *inner))


def _thumbnail(path: Path) -> Html:
    try:
        loaded = image.load(path).rgb
    except InputFileError:
        return tag("span", "cannot be shown")
    loaded.thumbnail((SIDE, SIDE))
    data = io.BytesIO()
    loaded.save(data, "WEBP", quality=80)
    return picture(data.getvalue(), "image/webp", "")  # what it shows stands in the field beside it
