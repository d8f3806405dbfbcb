"""`mue-edge alt-text`: folders, pages, second runs, runs that were killed, and a person's corrections."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mue_edge.sessions.captioner import Captioner
from tests.apps.cli.run import Runner, picture

TABLE = "alt-text.ndjson"


def rows(table: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in table.read_text().splitlines()]
    return {row["file"]: row for row in found}


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        p.relative_to(folder).as_posix(): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in folder.rglob("*")
        if p.is_file()
    }


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every picture that is captioned."""
    seen: list[object] = []
    caption = Captioner.caption

    def counted(self: Captioner, picture: Any, **options: Any) -> Any:
        seen.append(picture)
        return caption(self, picture, **options)

    monkeypatch.setattr(Captioner, "caption", counted)
    return seen


def test_a_folder_gets_a_table(run: Runner, tiny_bundle: Path, pictures: Path, calls: list[object]) -> None:
    before = snapshot(pictures)
    done = run("alt-text", pictures, "--bundle", tiny_bundle)
    assert done.code == 4 and "1b-damaged.png" in done.err  # the others are still done
    table = rows(pictures / TABLE)
    assert list(table) == ["0.png", "1.png", "2.png"] and len(calls) == 3
    assert all(row["alt"] and row["policy"] == "full" and row["score"] < 0 for row in table.values())
    assert set(table["0.png"]["exits"]) == {"image", "text", "decoder"}
    after = snapshot(pictures)
    assert set(after) - set(before) == {TABLE} and before.items() <= after.items()


def test_a_second_run_changes_and_costs_nothing(
    run: Runner, tiny_bundle: Path, pictures: Path, calls: list[object]
) -> None:
    (pictures / "1b-damaged.png").unlink()
    assert run("alt-text", pictures, "--bundle", tiny_bundle).code == 0
    first = snapshot(pictures)
    calls.clear()
    # Not even the bundle is opened.
    done = run("alt-text", pictures, "--bundle", "no-such-bundle", "--json")
    assert (done.code, done.json()["captioned"], done.json()["known"]) == (0, 0, 3)
    assert snapshot(pictures) == first and not calls


def test_copies_renames_and_new_pictures(run: Runner, tiny_bundle: Path, pictures: Path, calls: list[object]) -> None:
    (pictures / "1b-damaged.png").unlink()
    shutil.copy(pictures / "0.png", pictures / "copy.png")
    run("alt-text", pictures, "--bundle", tiny_bundle)
    assert len(calls) == 3
    calls.clear()
    (pictures / "1.png").rename(pictures / "renamed.png")
    picture(pictures / "2.png", 7)
    old = rows(pictures / TABLE)
    assert run("alt-text", pictures, "--bundle", tiny_bundle, "--json").json()["captioned"] == 1
    new = rows(pictures / TABLE)
    assert len(calls) == 1 and list(new) == ["0.png", "2.png", "copy.png", "renamed.png"]
    assert new["renamed.png"]["alt"] == old["1.png"]["alt"] and new["0.png"] == old["0.png"]
    assert new["copy.png"] == old["0.png"] | {"file": "copy.png"}
    assert new["2.png"]["sha256"] != old["2.png"]["sha256"]


def test_again_captions_all_but_a_persons_words(run: Runner, tiny_bundle: Path, pictures: Path, early: Path) -> None:
    run("alt-text", pictures, "--bundle", tiny_bundle)
    table = rows(pictures / TABLE)
    table["1.png"] |= {"alt": "mine", "edited": True}
    (pictures / TABLE).write_text("".join(json.dumps(row) + "\n" for row in table.values()))
    run("alt-text", pictures, "--bundle", tiny_bundle, "--policy", early, "--again")
    new = rows(pictures / TABLE)
    assert new["1.png"] == table["1.png"]
    assert new["0.png"]["policy"] == new["2.png"]["policy"] != "full"
    # One that fails before the first caption loses nothing.
    assert run("alt-text", pictures, "--bundle", "no-such-bundle", "--again").code == 4
    assert rows(pictures / TABLE) == new


def test_dry_run_writes_nothing(run: Runner, pictures: Path, tmp_path: Path) -> None:
    (pictures / "page.html").write_text("<img src=0.png>")
    before = snapshot(tmp_path)
    review = tmp_path / "review.html"
    for source in (pictures, pictures / "page.html"):
        done = run("alt-text", source, "--bundle", "none", "--dry-run", "--review", review)
        assert done.code == 0 and "would caption 0.png" in done.out
    assert snapshot(tmp_path) == before


def test_folders_in_folders_and_links_out(run: Runner, tiny_bundle: Path, tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "out"
    (folder / "deeper").mkdir(parents=True)
    outside.mkdir()
    picture(folder / "deeper" / "a.png")
    picture(outside / "secret.png", 1)
    (folder / "link.png").symlink_to(outside / "secret.png")
    (folder / "linked").symlink_to(outside)
    assert "--recursive" in run("alt-text", folder, "--bundle", tiny_bundle).error(4)
    assert run("alt-text", folder, "--bundle", tiny_bundle, "--recursive").code == 0
    assert list(rows(folder / TABLE)) == ["deeper/a.png"]


PAGE = (
    "<!doctype html>\r\n<title>x</title><img src=0.png>\n<img src=1.png alt=''><img src='2.png' alt='mine'>\n"
    "<img src=1.png role=presentation alt=''><img src=../secret.png><img src=0.png ><!--<img src=0.png>-->é"
)


@pytest.fixture
def page(pictures: Path, tmp_path: Path) -> Path:
    picture(tmp_path / "secret.png", 9)
    path = pictures / "page.html"
    path.write_bytes(PAGE.encode())
    return path


def test_a_page_gets_alt_text_where_it_lacks_it(
    run: Runner, tiny_bundle: Path, page: Path, calls: list[object]
) -> None:
    report = run("alt-text", page, "--bundle", tiny_bundle, "--json").json()
    alts = {file: row["alt"] for file, row in rows(page.with_name(f"page.html.{TABLE}")).items()}
    assert set(alts) == {"0.png", "1.png"} and len(calls) == 2
    expected = (
        PAGE.replace("<img src=0.png>\n", f'<img alt="{alts["0.png"]}" src=0.png>\n')
        .replace("<img src=0.png >", f'<img alt="{alts["0.png"]}" src=0.png >')
        .replace("src=1.png alt=''>", f'src=1.png alt="{alts["1.png"]}">')
    )
    assert page.read_bytes() == expected.encode()
    assert report["filled"] == 3 and len(report["left_alone"]) == 3
    before = snapshot(page.parent)
    assert run("alt-text", page, "--bundle", "none").code == 0
    assert snapshot(page.parent) == before


def test_what_a_page_may_ask_for(run: Runner, tiny_bundle: Path, page: Path) -> None:
    out = page.with_name("out.html")
    run("alt-text", page, "--bundle", tiny_bundle, "--missing-only", "--out", out)
    assert page.read_bytes() == PAGE.encode() and "src=1.png alt=''><img" in out.read_bytes().decode()
    run("alt-text", page, "--bundle", tiny_bundle, "--replace", "--root", page.parent.parent)
    text = page.read_bytes().decode()
    assert "alt='mine'" not in text and 'alt="' in text.partition("../secret.png")[0].rpartition("<img")[2]
    assert "role=presentation alt=''" in text


def test_corrections_reach_table_and_page(run: Runner, tiny_bundle: Path, page: Path) -> None:
    review, edits = page.with_name("review.html"), page.with_name("edits.json")
    run("alt-text", page, "--bundle", tiny_bundle, "--review", review)
    table = rows(page.with_name(f"page.html.{TABLE}"))
    saved = [{"sha256": table["0.png"]["sha256"], "alt": ' a "quoted"\n<b>word</b> '}]
    edits.write_text(json.dumps({"kind": "mue-edge alt text 1", "edits": saved}))
    done = run("alt-text", page, "--bundle", "none", "--edits", edits)
    assert done.code == 0, done.err
    alt = 'a "quoted" <b>word</b>'
    entry = rows(page.with_name(f"page.html.{TABLE}"))["0.png"]
    assert (entry["alt"], entry["edited"]) == (alt, True)
    assert page.read_bytes().decode().count('alt="a &quot;quoted&quot; &lt;b&gt;word&lt;/b&gt;"') == 2
    assert "alt='mine'" in page.read_bytes().decode()
    edits.write_text(json.dumps({"kind": "mue-edge alt text 1", "edits": [{"sha256": "0" * 64, "alt": "x"}]}))
    assert "1 corrections" in run("alt-text", page, "--edits", edits).error(4)


@pytest.mark.parametrize(
    "saved",
    ["", "[]", "{}", '{"kind": "other", "edits": []}', "[" * 100_000,
     '{"kind": "mue-edge alt text 1", "edits": [{"alt": "x"}]}',
     '{"kind": "mue-edge alt text 1", "edits": [{"sha256": 1, "alt": "x"}]}'],
)  # fmt: skip
def test_corrections_that_are_none(run: Runner, pictures: Path, tmp_path: Path, saved: str) -> None:
    edits = tmp_path / "edits.json"
    edits.write_text(saved)
    before = snapshot(pictures)
    assert "edits.json" in run("alt-text", pictures, "--edits", edits).error(4)
    assert snapshot(pictures) == before


def test_mistakes(run: Runner, pictures: Path, tmp_path: Path) -> None:
    assert "does not exist" in run("alt-text", tmp_path / "none").error(4)
    assert ".html" in run("alt-text", pictures / "0.png").error(2)
    assert "--out" in run("alt-text", pictures, "--out", tmp_path / "x.html").error(2)
    (tmp_path / "a.html").write_text("")
    assert "--recursive" in run("alt-text", tmp_path / "a.html", "-r").error(2)
    (pictures / TABLE).write_text('{"file": "0.png"}\n')
    assert f"{TABLE}:1 lacks" in run("alt-text", pictures).error(4)


SLOW = """
import signal, sys, time
from mue_edge.sessions import captioner
from mue_edge.apps.cli import main as cli
from mue_edge.apps.alt_text import writing
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits it ignored
writing.SAVE_SECONDS = 0.0
caption = captioner.Captioner.caption
def slow(*a, **k):
    time.sleep(0.2)
    return caption(*a, **k)
captioner.Captioner.caption = slow
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_stopped_goes_on(
    run: Runner, tiny_bundle: Path, tmp_path: Path, calls: list[object], how: signal.Signals
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(12):
        picture(folder / f"{i:02}.png", i)
    command = [sys.executable, "-c", SLOW, "alt-text", str(folder), "--bundle", str(tiny_bundle)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})
    while child.poll() is None and not (folder / TABLE).exists():
        time.sleep(0.02)
    child.send_signal(how)
    child.communicate()
    done = rows(folder / TABLE)
    assert 0 < len(done) < 12
    assert child.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    report = run("alt-text", folder, "--bundle", tiny_bundle, "--json").json()
    assert report["captioned"] == len(calls) == 12 - len(done)
    assert len(rows(folder / TABLE)) == 12
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []
