"""`mue-edge alt-text`: write alt text for a folder of pictures or an HTML page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

import mue_edge
from mue_edge.apps.cli.options.common import bundle_option, json_option, policy_option, threads_option
from mue_edge.apps.cli.options.pixels import max_pixels_option
from mue_edge.apps.cli.options.sets import option, shared, takes
from mue_edge.apps.cli.options.types import NewFile
from mue_edge.errors import InputFileError, UsageError, command_line

if TYPE_CHECKING:
    from mue_edge.apps.alt_text.review import Edit
    from mue_edge.apps.alt_text.table import Table
    from mue_edge.apps.alt_text.writing import AltTextWork

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
class AltTextOptions:
    """The command's options."""

    source: Path = shared(click.argument("source", type=click.Path(path_type=Path)))
    bundle: str | None = shared(bundle_option)
    policy: str | None = shared(policy_option())
    table: Path | None = option(
        "--table", type=NewFile(), help=f"The table.  [default: FOLDER/{TABLE}, PAGE.{TABLE}]"
    )
    recursive: bool = option("-r", "--recursive", is_flag=True, help="Of a folder: the folders in it too.")
    root: Path | None = option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help="Of a page: the site's folder.  [default: the page's]",
    )
    out: Path | None = option("--out", type=NewFile(), help="Of a page: write it there.")
    missing_only: bool = option(
        "--missing-only", is_flag=True, help='Of a page: leave alt="" (decorative) alone too.'
    )
    replace: bool = option("--replace", is_flag=True, help="Of a page: replace alt text that is there.")
    again: bool = option("--again", is_flag=True, help="Caption anew what no person wrote.")
    edits: Path | None = option(
        "--edits", type=click.Path(path_type=Path, dir_okay=False), help="What a review page saved."
    )
    review: Path | None = option("--review", type=NewFile(), help="Write a review page there.")
    dry_run: bool = option(
        "--dry-run", is_flag=True, help="Say what would be done; write and caption nothing."
    )
    as_json: bool = shared(json_option("The report as JSON."))
    threads: int | None = shared(threads_option())


@click.command("alt-text")
@takes(AltTextOptions)
@max_pixels_option
def command(o: AltTextOptions) -> int:
    """Write alt text for SOURCE: a folder of pictures, or an HTML page's local images.

    A folder gets a table, a JSON object a line. In a page, images without alt text get some, every other byte
    stays; it has a table too, so that nothing is captioned twice and a run that was stopped goes on.
    A picture that cannot be used is named and the others are still done; the exit code is then 4.
    """
    from mue_edge.apps.alt_text.page import SUFFIXES

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
    _tell(o, report)
    return 4 if report.problems else 0


def _folder(o: AltTextOptions) -> _Report:
    from mue_edge.apps.alt_text import folder

    place = o.table or o.source / TABLE
    found = folder.pictures(o.source, recursive=o.recursive)
    report = _Report(str(place), len(found))
    table = _run(o, place, found, _edits(o), report)
    _review(o, table, found, report)
    return report


def _page(o: AltTextOptions) -> _Report:
    from mue_edge.apps.alt_text import page as pages
    from mue_edge.apps.alt_text import table as tables
    from mue_edge.apps.alt_text.choice import choose

    page = pages.read(o.source)
    place = o.table or o.source.with_name(f"{o.source.name}.{TABLE}")
    report = _Report(str(place), len(page.images))
    choice = choose(page, tables.read(place), o.root, replace=o.replace, missing_only=o.missing_only)
    report.left_alone = choice.left_alone
    table = _run(o, place, choice.files, _edits(o), report)
    alts = choice.alts(page, table)
    report.filled = len(alts)
    if not o.dry_run and (alts or o.out):
        target = o.out or o.source
        pages.write(page, pages.filled(page, alts), target)
        report.page = str(target)
    _review(o, table, choice.files, report)
    return report


def _edits(o: AltTextOptions) -> tuple[Edit, ...]:
    from mue_edge.apps.alt_text.review import read_edits

    return read_edits(o.edits) if o.edits else ()


def _run(
    o: AltTextOptions, place: Path, pictures: Mapping[str, Path], edits: tuple[Edit, ...], report: _Report
) -> Table:
    """Bring the table at `place` up to these pictures and edits, unless it is a dry run."""
    from mue_edge.apps.alt_text import review, writing
    from mue_edge.apps.alt_text import table as tables

    before, lost = review.apply(edits, tables.read(place))
    report.edited = sum(entry.edited for entry in before.values())
    if lost:
        report.problems[str(o.edits)] = f"{lost} corrections are of pictures that are not in {place}"
    work = writing.survey(pictures, before, again=o.again)
    report.to_caption = [file for files in work.todo.values() for file in files]
    report.known = len(work.table)
    if not o.dry_run:
        _caption(o, place, pictures, work)
        done = set(report.to_caption) - set(work.problems)
        report.captioned, report.to_caption = len(done), []
    report.problems |= work.problems
    return work.table


def _caption(o: AltTextOptions, place: Path, pictures: Mapping[str, Path], work: AltTextWork) -> None:
    from mue_edge.apps.alt_text import table as tables
    from mue_edge.apps.alt_text import writing

    def save(table: Table) -> None:
        if table or place.exists():
            tables.write(place, table)

    if not work.todo:
        save(work.table)
        return
    steps = writing.caption(
        work, pictures, lambda: mue_edge.open(o.bundle, threads=o.threads), o.policy, save
    )
    with click.progressbar(steps, len(work.todo), "captions", file=sys.stderr) as bar:
        for _ in bar:
            pass


def _review(o: AltTextOptions, table: Table, pictures: Mapping[str, Path], report: _Report) -> None:
    from mue_edge.apps.alt_text import review
    from mue_edge.files import atomic_write

    if o.review is None or o.dry_run:
        return
    page = review.page(f"Alt text of {o.source.name}", table, pictures, _with_edits(o))
    atomic_write(o.review, page)
    report.review = str(o.review)


def _with_edits(o: AltTextOptions) -> str:
    return command_line("alt-text", o.source, "--edits", "alt-text-edits.json")


def _tell(o: AltTextOptions, report: _Report) -> None:
    for what, why in report.problems.items():
        click.echo(f"error: {why if what in why else f'{what}: {why}'}", err=True)
    if o.as_json:
        click.echo(json.dumps(vars(report), indent=1))
        return
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
        click.echo(
            f"wrote {report.review}; open it in a browser, save the corrections, then: {_with_edits(o)}"
        )
    else:
        click.echo(f"next: {command_line('alt-text', o.source, '--review', 'review.html')}")
