"""Pictures of the applications for the docs, by Debian's Chromium: `python tools/screenshots.py [NAME …]`.

They show held-out pictures of the bundled model, which is exported for it.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from PIL import Image
from playwright.sync_api import sync_playwright

from mue_edge import cli
from mue_edge.apps import stickers

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 150_000
PICTURES = 18


def run(*args: str | Path) -> None:
    """A command, as a user gives it."""
    try:
        cli.main([str(a) for a in args])
    except SystemExit as end:
        assert not end.code, args


def some(folder: Path) -> list[Path]:
    """Held-out pictures, copied there."""
    every = [path for path, _ in stickers.demo_pictures()]
    chosen = every[:: len(every) // PICTURES][:PICTURES]
    return [Path(shutil.copy(path, folder)) for path in chosen]


def alt_text(browser: Any, work: Path, bundle: Path) -> bytes:
    """The review page of a folder."""
    folder = work / "my-stickers"
    folder.mkdir()
    some(folder)
    page = work / "review.html"
    run("alt-text", folder, "--bundle", bundle, "--review", page)
    tab = browser.new_page(viewport={"width": 1000, "height": 640}, device_scale_factor=1.5)
    tab.goto(page.as_uri())
    shot: bytes = tab.screenshot()
    return shot


SHOTS: dict[str, Callable[[Any, Path, Path], bytes]] = {"alt-text": alt_text}


def main(names: list[str]) -> None:
    """Write docs/NAME.webp for these applications, or for all."""
    program = shutil.which("chromium")
    if program is None:
        sys.exit("no chromium here; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        work = Path(place)
        run("export", "stickers", "--out", work / "bundle")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for name in names or list(SHOTS):
            data = io.BytesIO()
            Image.open(io.BytesIO(SHOTS[name](browser, work, work / "bundle"))).save(data, "WEBP", quality=70)
            if len(data.getvalue()) > MAX_BYTES:
                sys.exit(f"{name}: {len(data.getvalue()):,} bytes are too many for the docs")
            (ROOT / "docs" / f"{name}.webp").write_bytes(data.getvalue())
            click.echo(f"wrote docs/{name}.webp, {len(data.getvalue()):,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
