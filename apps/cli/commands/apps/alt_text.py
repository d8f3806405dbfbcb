"""`mue-edge alt-text`: write alt text for a folder of pictures or an HTML page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from mue_edge.apps.alt_text import page as pages
from mue_edge.apps.alt_text import review, writing
from mue_edge.apps.alt_text import table as tables
from mue_edge.apps.alt_text.choice import choose, folder_pictures
from mue_edge.apps.alt_text.page import SUFFIXES
from mue_edge.apps.alt_text.table import Table
from mue_edge.apps.alt_text.writing import AltTextWork
from mue_edge.apps.cli.options import NewFile, common, option, shared, takes
from mue_edge.apps.cli.terminal import say
from mue_edge.errors import InputFileError, UsageError, command_line
from mue_edge.files import atomic_write

TABLE = "alt-text.ndjson"


@dataclass
class _Report:
    """What a run found and did, as it is printed."""

    table: str
    pictures: int = 0
    known: int = 0
    captioned: int = 0
    to_caption: list[str] = field(default_factory=list)
    left_alone: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    edited: int = 0
    page: str | None = None
    filled: int = 0
    review: str | None = None


@dataclass(frozen=True)
class AltTextOptions(common.SessionOptions):
    source: Path = shared(click.argument("source", type=click.Path(path_type=Path)))
    table: Path | None = option(f"The table.  [default: FOLDER/{TABLE}, PAGE.{TABLE}]", type=NewFile())
    recursive: bool = option("Of a folder: the folders in it too.", "-r", "--recursive")
    root: Path | None = option(
        "Of a page: the site's folder.  [default: the page's]",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
    )
    out: Path | None = option("Of a page: write it there.", type=NewFile())
    missing_only: bool = option('Of a page: leave alt="" (decorative) alone too.')
    replace: bool = option("Of a page: replace alt text that is there.")
    again: bool = option("Caption anew what no person wrote.")
    edits: Path | None = option("What a review page saved.", type=click.Path(path_type=Path, dir_okay=False))
    review: Path | None = option("Write a review page there.", type=NewFile())
    dry_run: bool = option("Say what would be done; write and caption nothing.")
    as_json: bool = shared(common.json_option("The report as JSON."))

    @property
    def next_command(self) -> str:
        """What brings a review page's corrections back."""
        return command_line("alt-text", self.source, "--edits", "alt-text-edits.json")


@click.command("alt-text")
@takes(AltTextOptions)
@common.max_pixels_option
def command(o: AltTextOptions) -> int:
    """Write alt text for SOURCE: a folder of pictures, or an HTML page's local images.

    A folder gets a table, a JSON object a line. In a page, images without alt text get some, every other byte
    stays; it has a table too, so that nothing is captioned twice and a run that was stopped goes on.
    A picture that cannot be used is named and the others are still done; the exit code is then 4.
    """
    if o.source.is_dir():
        if any((o.root, o.out, o.missing_only, o.replace)):
            raise UsageError("--root, --out, --missing-only and --replace are for an HTML page, not a folder")
        report = _folder(o)
    elif o.source.suffix.lower() in SUFFIXES:
        if o.recursive:
            raise UsageError("--recursive is for a folder, not an HTML page")
        report = _page(o)
    elif o.source.exists():
        raise UsageError(f"{o.source} is neither a folder nor an HTML page ({', '.join(sorted(SUFFIXES))})")
    else:
        raise InputFileError(f"{o.source} does not exist")
    for file, why in report.problems.items():
        say(f"error: {why if file in why else f'{file}: {why}'}")
    if o.as_json:
        click.echo(json.dumps(vars(report), indent=1))
    else:
        _print(o, report)
    return 4 if report.problems else 0


def _folder(o: AltTextOptions) -> _Report:
    path = o.table or o.source / TABLE
    pictures = folder_pictures(o.source, recursive=o.recursive)
    report = _Report(str(path), len(pictures))
    _update(o, path, pictures, report)
    return report


def _page(o: AltTextOptions) -> _Report:
    page = pages.read(o.source)
    path = o.table or o.source.with_name(f"{o.source.name}.{TABLE}")
    report = _Report(str(path), len(page.images))
    choice = choose(page, tables.read(path), o.root, replace=o.replace, missing_only=o.missing_only)
    report.left_alone = choice.left_alone
    alts = choice.alts(page, _update(o, path, choice.files, report))
    report.filled = len(alts)
    if not o.dry_run and (alts or o.out):
        out = o.out or o.source
        pages.write(page, pages.filled(page, alts), out)
        report.page = str(out)
    return report


def _update(o: AltTextOptions, path: Path, pictures: Mapping[str, Path], report: _Report) -> Table:
    """Bring the table up to these pictures and edits, and write the review page; a dry run writes nothing."""
    edits = review.read_edits(o.edits) if o.edits else ()
    before, lost = review.apply(edits, tables.read(path))
    report.edited = sum(entry.edited for entry in before.values())
    if lost:
        report.problems[str(o.edits)] = f"{lost} corrections are of pictures that are not in {path}"
    work = writing.survey(pictures, before, again=o.again)
    report.to_caption = [file for files in work.todo.values() for file in files]
    report.known = len(work.table)
    if not o.dry_run:
        _caption(o, path, pictures, work)
        done = set(report.to_caption) - set(work.problems)
        report.captioned, report.to_caption = len(done), []
        if o.review is not None:
            page = review.page(f"Alt text of {o.source.name}", work.table, pictures, o.next_command)
            atomic_write(o.review, page)
            report.review = str(o.review)
    report.problems |= work.problems
    return work.table


def _caption(o: AltTextOptions, path: Path, pictures: Mapping[str, Path], work: AltTextWork) -> None:
    def save(table: Table) -> None:
        if table or path.exists():
            tables.write(path, table)

    if not work.todo:
        save(work.table)
        return
    steps = writing.caption(work, pictures, o.open, o.policy, save)
    with click.progressbar(steps, len(work.todo), "captions", file=sys.stderr) as bar:
        for _ in bar:
            pass


def _print(o: AltTextOptions, report: _Report) -> None:
    images = "images" if o.source.is_file() else "pictures"
    click.echo(f"{report.pictures} {images}, {report.known} of them in {report.table} before")
    for where, why in report.left_alone.items():
        click.echo(f"  left alone: {where}: {why}")
    if o.dry_run:
        for file in report.to_caption:
            click.echo(f"  would caption {file}")
        click.echo(f"nothing was written; to caption: {len(report.to_caption)}")
        return
    click.echo(f"captioned {report.captioned}; written by a person: {report.edited}")
    if report.page:
        click.echo(f"wrote {report.page}: alt text in {report.filled} {images}, every other byte as it was")
    if report.review:
        click.echo(f"wrote {report.review}; open it in a browser, save the corrections, then: {o.next_command}")
    else:
        click.echo(f"next: {command_line('alt-text', o.source, '--review', 'review.html')}")
