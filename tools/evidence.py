"""The long proofs of tools/proofs/: `python tools/evidence.py [NAME…]`, or `make evidence`.

Each writes evidence/NAME.json when it is done and is skipped while that record is fresh (no file that its
processes read has changed), so a run that was stopped goes on where it was. `--check` lists stale and missing
records. Pictures come from the sticker recipe, which must have been run. `python tools/readme.py` then
writes the pages.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from proofs import load, names
from proving import ROOT
from proving.reading import changed, digests, entries
from proving.record import FOLDER, git, read, write

# Beside what measuring keeps, for as long: it also says what that was made from.
LOGS = ROOT / ".cache" / "evidence"
BUSY = 0.5  # processes that wait or run a minute, above which a machine is not quiet


def state(name: str, folder: Path = FOLDER) -> str:
    """Whether a record is fresh, missing or stale, and what has changed."""
    record = read(name, folder)
    if record is None:
        return "missing"
    files = changed(record["covers"])
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"stale: {files[0]}{more}" if files else "fresh"


def measure(name: str, folder: Path = FOLDER) -> None:
    """Make FOLDER/NAME.json anew."""
    proof, commit = load(name), git("rev-parse", "HEAD")
    begun, load_average = time.time(), os.getloadavg()[0]
    if getattr(proof, "QUIET", False) and load_average > BUSY:
        click.echo(f"{name} measures time, and this machine is busy: load average {load_average:.1f}", err=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.txt"
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "figures.json"
        command = [sys.executable, "-m", "proving.process", name, str(log), str(out)]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "tools")}, check=True)
        figures = json.loads(out.read_text(encoding="utf-8"))
    covers = digests({*entries(log), *getattr(proof, "DATA", ())}, begun)
    # Of this run alone: what earlier ones kept is not in it.
    this = {"commit": commit, "seconds": round(time.time() - begun), "load": round(load_average, 1)}
    write(name, f"python tools/evidence.py {name}", covers, figures, folder, **this)


@click.command(help=__doc__)
@click.argument("chosen", metavar="[NAME]...", nargs=-1, type=click.Choice(names()))
@click.option("--force", is_flag=True, help="Also what is fresh.")
@click.option("--check", is_flag=True, help="Only say what is stale or missing.")
@click.option(
    "--into",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=FOLDER,
    help="Another folder for the records, to try a proof.",
)
def main(chosen: tuple[str, ...], force: bool, check: bool, folder: Path) -> None:
    for name in chosen or names():
        now, why = state(name, folder), getattr(load(name), "BY_NAME", "")
        if check or (now == "fresh" and not force):
            click.echo(f"{name}: {now}")
        elif why and not chosen:
            click.echo(f"{name}: {now}; only by name: {why}")
        else:
            click.echo(f"{name}: {now}; measuring")
            try:
                measure(name, folder)
            except subprocess.CalledProcessError as problem:
                raise click.ClickException(f"{name} ended with an error; the same command goes on") from problem


if __name__ == "__main__":
    main()
