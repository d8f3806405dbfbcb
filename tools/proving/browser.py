"""The web app in Debian's Chromium on real pictures.

Small pictures and large JPEGs that lie on their sides against the host, captions without a network, memory
over many captions, bytes of the first load and the time to the first caption.
Needs chromium, Playwright and npm.
"""

from __future__ import annotations

import functools
import gzip
import http.server
import io
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import mue_edge
from proving.processes import resident

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
ARGUMENTS += ("--js-flags=--expose-gc",)
WAIT = 180_000
TURNED = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
READY = "html[data-ready=yes]"


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, Any]]:
    """Python's file server on a folder, on this machine only."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    try:
        yield f"http://127.0.0.1:{server.server_port}/", stop
    finally:
        stop()


@contextmanager
def chromium() -> Iterator[Any]:
    program = shutil.which("chromium")
    if program is None:
        sys.exit("no chromium here; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield browser
        browser.close()


def photographs(pictures: Sequence[Image.Image], size: tuple[int, int] = (2400, 1800)) -> dict[str, bytes]:
    """JPEGs of several megapixels whose EXIF data say how they lie."""
    found = {}
    for i, picture in enumerate(pictures):
        orientation = list(TURNED)[i % len(TURNED)]
        turn, exif = TURNED[orientation], Image.Exif()
        exif[0x0112] = orientation
        large = picture.resize(size, Image.Resampling.LANCZOS)
        out = io.BytesIO()
        (large if turn is None else large.transpose(turn)).save(out, "JPEG", quality=90, exif=exif)
        found[f"{i}-{orientation}.jpg"] = out.getvalue()
    return found


def captioned(page: Any, name: str, data: bytes) -> tuple[str, list[int]]:
    """What the page says of a picture: the caption and the layers that were run."""
    done = page.evaluate("document.documentElement.dataset.done ?? 0")
    page.set_input_files("#pick", {"name": name, "mimeType": "", "buffer": data})
    page.wait_for_selector(f'html[data-done]:not([data-done="{done}"])', timeout=WAIT)
    depths = page.locator("#exits td:last-child").all_inner_texts()
    return page.inner_text("#caption"), [int(text.split()[0]) for text in depths]


def compared(page: Any, captioner: Any, files: dict[str, bytes], policy: str) -> dict[str, int]:
    """Captions and layers that equal the host's."""
    found = {"pictures": len(files), "captions": 0, "exits": 0}
    for name, data in files.items():
        wanted = captioner.caption(data, policy=policy)
        text, depths = captioned(page, name, data)
        found["captions"] += text == (wanted.text or "(no words)")
        found["exits"] += depths == [wanted.exits["image"], *wanted.exits["decoder"]]
    return found


def choose(page: Any, captioner: Any, policy: str) -> None:
    """Move the slider there by keyboard."""
    names = list(captioner.bundle.manifest.policies())
    page.locator("#policy").focus()
    page.keyboard.press("Home")
    for _ in range(names.index(policy)):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#policy-name").startswith(policy)


def memory(browser: Any, page: Any) -> dict[str, float]:
    """Resident megabytes of all of the browser's processes that draw pages, garbage collected."""
    for place in (page, *page.workers):
        place.evaluate("gc()")
    time.sleep(1)
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    pages = [p["id"] for p in processes if p["type"] == "renderer"]
    return {"renderers_mb": round(sum(map(resident, pages)), 1)}


def sizes(site: Path) -> dict[str, int]:
    """Bytes that the first load takes, as they are and as a server that compresses sends them."""
    files = [p for p in site.rglob("*") if p.is_file() and "golden" not in p.parts]
    packed = sum(min(len(gzip.compress(p.read_bytes(), 6)), p.stat().st_size) for p in files)
    return {"bytes": sum(p.stat().st_size for p in files), "gzip_bytes": packed}


def figures(site: Path, pictures: Sequence[Image.Image], captions: int) -> dict[str, Any]:
    """Everything that docs/web.md says."""
    small = {}
    for i, picture in enumerate(pictures):
        out = io.BytesIO()
        picture.save(out, "PNG")
        small[f"{i}.png"] = out.getvalue()
    large = photographs(pictures[:20])
    with served(site) as (url, stop), chromium() as browser, mue_edge.open(site / "bundle", threads=1) as captioner:
        found: dict[str, Any] = {"chromium": browser.version, "site": sizes(site)}
        page = browser.new_context().new_page()
        page.set_default_timeout(WAIT)
        page.goto("about:blank")
        found["empty"] = memory(browser, page)
        began = time.perf_counter()
        page.goto(url)
        page.wait_for_selector(READY)
        ready = time.perf_counter() - began
        captioned(page, "first.png", small["0.png"])
        found["first_visit"] = {"ready_s": ready, "first_caption_s": time.perf_counter() - began}
        page.wait_for_selector("html[data-offline=yes]")
        names = list(captioner.bundle.manifest.policies())
        found["small"], found["large"] = {}, {}
        for policy in names:
            choose(page, captioner, policy)
            found["small"][policy] = compared(page, captioner, small, policy)
        found["large"][names[-1]] = compared(page, captioner, large, names[-1])
        stop()
        began = time.perf_counter()
        page.reload()
        page.wait_for_selector(READY)
        found["offline"] = {"ready_s": time.perf_counter() - began}
        choose(page, captioner, names[-1])
        found["offline"] |= compared(page, captioner, dict(list(small.items())[:10]), names[-1])
        found["memory"], files = [{"captions": 0, **memory(browser, page)}], list(small.items())
        for i in range(captions):
            captioned(page, *files[i % len(files)])
            if (i + 1) % (captions // 4) == 0:
                found["memory"].append({"captions": i + 1, **memory(browser, page)})
    return found
