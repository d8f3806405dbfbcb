"""Pictures of the applications for the docs, by Chromium and Qt: `python tools/screenshots.py [NAME …]`.

They show held-out pictures of the bundled model, which is exported for it. `calibration` is the report of
`python tools/evidence.py calibrate` where that was run, else of a short run on some pictures.
"""

from __future__ import annotations

import html
import io
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from PIL import Image
from playwright.sync_api import sync_playwright

from mue_edge.apps import stickers
from mue_edge.apps.cli import main as cli
from proving.browser import READY, WAIT, captioned, served

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 150_000
PICTURES = 18
TERMINAL = (
    "body { margin: 0; background: #1c2430; color: #e4e8ef } "
    "pre { margin: 0; padding: 16px; font: 14px/1.35 DejaVu Sans Mono, monospace; width: max-content }"
)


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
    folder = Path("my-stickers")  # the page shows the command, with this name
    folder.mkdir()
    some(folder)
    page = work / "review.html"
    run("alt-text", folder, "--bundle", bundle, "--review", page)
    tab = browser.new_page(viewport={"width": 1000, "height": 640}, device_scale_factor=1.5)
    tab.goto(page.as_uri())
    shot: bytes = tab.screenshot()
    return shot


def camera(browser: Any, work: Path, bundle: Path) -> bytes:
    """The camera's page, of a folder that is being filled."""
    folder = Path("snapshots")
    folder.mkdir()
    command = [sys.executable, "-m", "mue_edge", "camera", str(folder), "--bundle", str(bundle), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    watching = subprocess.Popen([*command, "--budget", "250ms"], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert watching.stdout is not None
        tab = browser.new_page(viewport={"width": 1000, "height": 700}, device_scale_factor=1.5)
        tab.goto(watching.stdout.readline().split("look at ")[1].partition(";")[0])
        for i, (path, _) in enumerate(stickers.demo_pictures()[30:36]):
            Image.open(path).convert("RGBA").resize((384, 384)).save(folder / f"{i}.png")
            tab.get_by_text(f"{i}.png").wait_for()
        tab.locator("#picture[src^=blob]").wait_for()
        tab.wait_for_timeout(500)
        shot: bytes = tab.screenshot(full_page=True)
        return shot
    finally:
        watching.send_signal(signal.SIGINT)
        watching.wait(30)


def web(browser: Any, work: Path, bundle: Path) -> bytes:
    """The web app's page on a desk in light and on a phone in dark, side by side."""
    run("export", "stickers", "--target", "browser", "--out", work / "site")
    shots = []
    with served(work / "site") as (url, _):
        for width, height, scheme in ((900, 740, "light"), (375, 740, "dark")):
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            page.set_default_timeout(WAIT)
            page.goto(url)
            page.wait_for_selector(READY)
            data = next(path for path, _ in stickers.demo_pictures() if "alien" in path.name).read_bytes()
            captioned(page, "alien.webp", data)
            page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
            shots.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
            context.close()
    whole = Image.new("RGB", (sum(s.width for s in shots) + 20, 740), "#808080")
    left = 0
    for shot in shots:
        whole.paste(shot, (left, 0))
        left += shot.width + 20
    out = io.BytesIO()
    whole.save(out, "PNG")
    return out.getvalue()


def phone(browser: Any, work: Path, bundle: Path) -> bytes:
    """The phones' app, on Qt, which has the shape of a phone here."""
    return apart(_phone, bundle, named("waning-crescent"))


def calibration(browser: Any, work: Path, bundle: Path) -> bytes:
    """The top of a calibration's report."""
    report = ROOT / ".cache" / "bundles" / "calibrated" / "report.html"
    if not report.is_file():
        folder = Path("pictures")
        folder.mkdir()
        for path, _ in stickers.demo_pictures()[:200]:
            shutil.copy(path, folder)
        run("calibrate", bundle, "--budget", "60%", "--data", folder, "--out", work / "calibrated")
        report = work / "calibrated" / "report.html"
    tab = browser.new_page(viewport={"width": 900, "height": 1100}, device_scale_factor=1.2)
    tab.goto(report.as_uri())
    shot: bytes = tab.screenshot()
    return shot


def terminal(browser: Any, work: Path, bundle: Path) -> bytes:
    """A caption and its exits, as `mue-edge caption` draws them."""
    picture = named("waning-crescent")
    shutil.copy(picture, work)
    command = f"mue-edge caption stickers-host {picture.name} --policy balanced --trace"
    arguments = [str(bundle) if word == "stickers-host" else word for word in command.split()[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "76"}
    done = subprocess.run(
        [sys.executable, "-m", "mue_edge", *arguments], capture_output=True, text=True, env=environment, check=True
    )
    tab = browser.new_page(viewport={"width": 720, "height": 200}, device_scale_factor=1.5)
    text = html.escape(f"$ {command}\n{done.stdout}")
    tab.set_content(f"<style>{TERMINAL}</style><body><pre>{text}</pre>")
    shot: bytes = tab.screenshot(full_page=True)
    return shot


def named(word: str) -> Path:
    """The first demo picture with that word in its file's name."""
    return next(path for path, _ in stickers.demo_pictures() if word in path.name)


def apart(function: Callable[..., bytes], *arguments: Path) -> bytes:
    """In a process of its own: Playwright and Toga each want the event loop."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _phone(bundle: Path, picture: Path) -> bytes:
    os.environ |= {"QT_QPA_PLATFORM": "offscreen", "TOGA_BACKEND": "toga_qt", "QT_SCALE_FACTOR": "1.5"}
    from mue_edge.apps.phone import app as phone_app

    shots: list[bytes] = []

    async def shoot(app: Any, screen: Any) -> None:
        if screen.problem.text:
            raise RuntimeError(screen.problem.text)
        shots.append(app.main_window.as_image().data)
        app.request_exit()

    phone_app.make(bundle, policy="balanced", picture=picture, then=shoot).main_loop()
    return shots[0]


SHOTS: dict[str, Callable[[Any, Path, Path], bytes]] = {
    "alt-text": alt_text,
    "calibration": calibration,
    "camera": camera,
    "phone": phone,
    "terminal": terminal,
    "web": web,
}


def main(names: list[str]) -> None:
    """Write docs/NAME.webp for these applications, or for all."""
    program = shutil.which("chromium")
    if program is None:
        sys.exit("no chromium here; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        work = Path(place)
        os.chdir(work)  # commands show short names
        run("export", "stickers", "--out", work / "bundle")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for name in names or list(SHOTS):
            data = io.BytesIO()
            shot = Image.open(io.BytesIO(SHOTS[name](browser, work, work / "bundle"))).convert("RGB")
            shot.save(data, "WEBP", quality=70, method=6)
            if len(data.getvalue()) > MAX_BYTES:
                sys.exit(f"{name}: {len(data.getvalue()):,} bytes are too many for the docs")
            (ROOT / "docs" / f"{name}.webp").write_bytes(data.getvalue())
            click.echo(f"wrote docs/{name}.webp, {len(data.getvalue()):,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
