"""The review page in a browser: corrections are saved as a file that reads back, and nothing is requested."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mue_edge.apps.alt_text import review
from mue_edge.apps.alt_text.table import TableEntry
from tests.apps.cli.run import picture

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_corrections_are_saved_and_read_back(browser: Browser, tmp_path: Path) -> None:
    table = {f"{i}.png": TableEntry(f"{i}.png", str(i) * 64, f"alt {i}", -1.0) for i in range(3)}
    pictures = {file: picture(tmp_path / file, i) for i, file in enumerate(table)}
    place = tmp_path / "review.html"
    place.write_text(review.page("Alt text of stickers", table, pictures, "mue-edge alt-text stickers"))
    tab = browser.new_page(viewport={"width": 360, "height": 640}, color_scheme="dark")
    requests: list[str] = []
    problems: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("pageerror", lambda problem: problems.append(str(problem)))
    tab.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    tab.goto(place.as_uri())
    assert tab.get_by_label("Alt text of 1.png").input_value() == "alt 1"
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360  # a phone need not scroll sideways
    assert all(tab.evaluate("[...document.images].map((i) => i.naturalWidth > 0)"))
    tab.get_by_label("Alt text of 1.png").fill('<b>"new"</b>')
    assert "1 changed" in tab.get_by_role("status").inner_text()
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save corrections").press("Enter")
    saved = tmp_path / "edits.json"
    download.value.save_as(saved)
    assert review.read_edits(saved) == (review.Edit("1" * 64, '<b>"new"</b>'),)
    assert "saved" in tab.get_by_role("status").inner_text()
    assert [r for r in requests if not r.startswith(("file:", "data:", "blob:"))] == [] and problems == []
    tab.close()
