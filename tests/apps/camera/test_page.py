"""The camera's page, over HTTP and in a browser."""

from __future__ import annotations

import contextlib
import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from mue_edge.apps import serving
from mue_edge.apps.camera.server import Live
from mue_edge.apps.camera.slot import Frame, Newest
from mue_edge.apps.camera.watching import Watcher
from mue_edge.sessions.captioner import Captioner
from tests.apps.camera.made import COLOURS, FAST, FULL, Slow, captioner, plain
from tests.apps.served import ask, connect

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@contextlib.contextmanager
def shown(budget: float | None = None) -> Iterator[tuple[str, Watcher, Live]]:
    """A page of a watcher that sees a new colour every 50 ms; its front has two policies."""
    bundle = captioner().bundle
    front = tuple(p.to_json() | {"name": p.name} for p in (FAST, FULL))
    bundle = replace(bundle, manifest=replace(bundle.manifest, front=front))
    slot, stop = Newest(), threading.Event()
    watcher = Watcher(Captioner(bundle, Slow(0.0)), slot, FULL, budget=budget, alike=0.06)
    live = Live(watcher, "<i>a source</i>")

    def fill() -> None:
        for i in range(10**6):
            if stop.wait(0.05):
                slot.end()
                return
            slot.put(Frame(plain(COLOURS[i // 4 % len(COLOURS)]), time.perf_counter(), f"frame {i}"))

    def watch() -> None:
        for seen in watcher.frames():
            live.show(seen)

    listener = serving.listen("127.0.0.1", 0)
    with listener, serving.running(live.app(listener), listener) as url:
        threads = [threading.Thread(target=work) for work in (fill, watch)]
        for thread in threads:
            thread.start()
        try:
            yield url, watcher, live
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            live.end()


def test_events_frames_and_the_slider() -> None:
    with shown(budget=10.0) as (url, watcher, live):
        client = connect(url)
        client.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        told = b""
        while told.count(b"event: frame") < 3:
            told += client.recv(65536)
        lines = [line[6:] for line in told.decode().splitlines() if line.startswith("data: ")]
        start, frame = json.loads(lines[0]), json.loads(lines[1])
        assert start["policies"] == ["fast", "full"] and start["policy"] == "full" and start["budget"] == 10
        assert frame["text"] and len(frame["tokens"]) == 6 and frame["latency"] > 0
        picture = ask(url, "/frame")
        assert picture.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(picture.body)).size == (64, 48)
        assert ask(url, "/policy?name=fast", b"").json() == {"policy": "fast"} and watcher.policy.name == "fast"
        assert "(fast, full)" in ask(url, "/policy?name=/etc/passwd", b"").error(400)
        assert ask(url, "/policy?name=full").error(405)
        assert ask(url, "/policy?name=full", b"", Origin="https://evil.example").error(403)
        assert watcher.policy.name == "fast"
        live.end()
        while block := client.recv(65536):
            told += block
        assert b"event: end" in told


def test_every_open_page_shows_the_same_slider(browser: Browser) -> None:
    with shown() as (url, _, _):
        one, other = browser.new_page(), browser.new_page()
        for tab in (one, other):
            tab.goto(url)
            tab.locator("#policy[aria-valuetext=full]").wait_for()
        one.get_by_role("slider").press("Home")
        other.locator("#policy[aria-valuetext=fast]").wait_for()
        assert other.get_by_role("slider").input_value() == "0"
        other.get_by_role("slider").press("End")
        one.locator("#policy[aria-valuetext=full]").wait_for()
        assert one.get_by_role("slider").input_value() == "1"
        for tab in (one, other):
            tab.close()


def test_the_page_loads_nothing_from_elsewhere() -> None:
    with shown() as (url, _, _):
        page = ask(url, "/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert b"http://" not in page.body and b"https://" not in page.body


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (360, "dark")])
def test_the_page_in_a_browser(browser: Browser, width: int, scheme: str) -> None:
    with shown(budget=10.0) as (url, watcher, _):
        tab = browser.new_page(viewport={"width": width, "height": 740}, color_scheme=scheme)  # type: ignore[arg-type]
        requests: list[str] = []
        problems: list[str] = []
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("pageerror", lambda problem: problems.append(str(problem)))
        tab.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        tab.goto(url)
        tab.locator("#tokens li").nth(5).wait_for()
        caption = tab.locator("[aria-live=polite]")
        assert caption.inner_text() and tab.locator("#source").inner_text().startswith("<i>a source</i>")
        tab.wait_for_selector("#picture[src^=blob]")
        # By keyboard alone: the slider has a name, says its policy, and reaches the watcher.
        slider = tab.get_by_role("slider")
        assert "fastest" in (slider.evaluate("e => e.labels[0].innerText") or "")
        assert slider.get_attribute("aria-valuetext") == "full"
        slider.focus()
        tab.keyboard.press("Home")
        tab.get_by_text("policy: fast").wait_for()
        assert slider.get_attribute("aria-valuetext") == "fast" and watcher.policy.name == "fast"
        assert tab.locator("meter").get_attribute("aria-label")
        tab.locator("#tokens li[aria-label$='1 of 3 layers']").first.wait_for()
        tab.get_by_role("button", name="Pause").press("Space")
        assert tab.get_by_role("button", name="Pause").get_attribute("aria-pressed") == "true"
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 22, 29)")
        assert all(r.startswith((url, "data:", f"blob:{url}")) for r in requests) and problems == []
        tab.close()


def test_a_page_that_was_left_does_not_stop_the_end(tmp_path: Path) -> None:
    before = threading.active_count()
    with shown() as (url, _, _):
        client = connect(url)
        client.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(100)
    client.close()
    assert threading.active_count() <= before + 1  # the executor that encodes pictures may stay
