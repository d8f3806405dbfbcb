"""Which pictures of a folder, or images of a page, get alt text, and why others are left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mue_edge.apps.alt_text.page import Page
from mue_edge.apps.alt_text.table import Table
from mue_edge.errors import InputFileError
from mue_edge.inputs.gathering import MAX_PATHS
from mue_edge.inputs.image import SUFFIXES


@dataclass(frozen=True)
class ImageChoice:
    """files: a picture's name in the table → its file. images: an image's number in the page → that name.
    left_alone: an image's place in the page → why."""

    files: dict[str, Path]
    images: dict[int, str]
    left_alone: dict[str, str]

    def alts(self, page: Page, table: Table) -> dict[int, str]:
        """What the page lacks of the table, by image; "" would hide one from readers, so only a person may
        say it."""
        entries = {number: table[name] for number, name in self.images.items() if name in table}
        return {
            number: entry.alt
            for number, entry in entries.items()
            if page.images[number].alt != entry.alt and (entry.alt or entry.edited)
        }


def choose(
    page: Page, table: Table, root: Path | None = None, *, replace: bool = False, missing_only: bool = False
) -> ImageChoice:
    """Images of local files without alt text, or with what this command wrote, which may follow the table;
    what somebody else wrote may not, but for `replace`. missing_only: alt="" is alt text too."""
    choice = ImageChoice({}, {}, {})
    start = page.path.resolve().parent
    for number, image in enumerate(page.images):
        where = f"line {image.line}: {image.src}"
        path = page.local(image, root)
        name = str(path) if isinstance(path, str) else Path(os.path.relpath(path, start)).as_posix()
        entry = table.get(name)
        ours = entry is not None and image.alt == entry.alt
        if image.decorative:
            choice.left_alone[where] = "it is marked as decorative"
        elif not ours and not replace and image.alt is not None and (image.alt.strip() or missing_only):
            choice.left_alone[where] = "it has alt text" if image.alt.strip() else 'it has alt=""'
        elif isinstance(path, str):
            choice.left_alone[where] = path
        else:
            choice.files[name], choice.images[number] = path, name
    choice.left_alone.update({f"line {line}": "the tag was not understood" for line in page.odd})
    return choice


def folder_pictures(folder: Path, *, recursive: bool = False) -> dict[str, Path]:
    """Path from the folder, with slashes → file, by name. Hidden files and folders are left out.

    Raises InputFileError if there is none.
    """
    inside = folder.resolve()
    files: dict[str, Path] = {}
    for path in _files(folder, recursive):
        if path.suffix.lower() in SUFFIXES and path.resolve().is_relative_to(inside):
            files[path.relative_to(folder).as_posix()] = path
            if len(files) > MAX_PATHS:
                raise InputFileError(f"more than {MAX_PATHS:,} pictures in {folder}; do them in parts")
    if not files:
        deeper = "" if recursive else "; to look into its folders too: --recursive"
        raise InputFileError(f"no picture ({', '.join(sorted(SUFFIXES))}) in the folder {folder}{deeper}")
    return files


def _files(folder: Path, recursive: bool) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as problem:
        raise InputFileError(f"the folder {folder} cannot be read: {problem.strerror}") from problem
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if recursive and not path.is_symlink():
                yield from _files(path, recursive)
        elif path.is_file():
            yield path
