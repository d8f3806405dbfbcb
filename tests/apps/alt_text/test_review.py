"""The review page: nothing in it leaves it, whatever the names and texts are."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from mue_edge.apps.alt_text import review
from mue_edge.apps.alt_text.review import Edit
from mue_edge.apps.alt_text.table import TableEntry, clean, read, write
from tests.apps.cli.run import picture

HOSTILE = "</textarea></script><script>alert(1)</script>\"' onload=x &amp;"


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def seen(html: str) -> Seen:
    parser = Seen()
    parser.feed(html)
    return parser


def test_texts_and_names_are_escaped_and_nothing_is_loaded(tmp_path: Path) -> None:
    file = "a<b>'&.png"
    path = picture(tmp_path / "a.png")
    entry = TableEntry(file, "0" * 64, HOSTILE, -0.5)
    page = seen(review.page(f"T {HOSTILE}", {file: entry}, {file: path}, f"alt-text {HOSTILE}"))
    names = [name for name, _ in page.tags]
    assert names.count("script") == 1 and names.count("textarea") == 1 and "b" not in names
    assert HOSTILE in page.text
    sources = [a.get("src") or a.get("href") for _, a in page.tags if a.get("src") or a.get("href")]
    assert len(sources) == 1 and str(sources[0]).startswith("data:image/webp;base64,")
    policy = next(a["content"] for n, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'")
    assert not any(key.startswith("on") for _, a in page.tags for key in a)


def test_every_field_has_its_label(tmp_path: Path) -> None:
    table = {f"{i}.png": TableEntry(f"{i}.png", str(i) * 64, f"alt {i}", -float(i)) for i in range(3)}
    pictures = {file: picture(tmp_path / file, i) for i, file in enumerate(table)}
    page = seen(review.page("T", table, pictures, "x"))
    fields = [a["id"] for n, a in page.tags if n == "textarea"]
    assert [a["for"] for n, a in page.tags if n == "label"] == fields and len(set(fields)) == 3
    # The least sure first; a picture that is gone is not shown, one that is damaged says so.
    order = [a["data-sha256"] for n, a in page.tags if n == "textarea"]
    assert order == ["2" * 64, "1" * 64, "0" * 64]
    (tmp_path / "1.png").write_bytes(b"x")
    page = seen(review.page("T", table, {f: p for f, p in pictures.items() if f != "0.png"}, "x"))
    assert [n for n, _ in page.tags].count("textarea") == 2 and "cannot be shown" in page.text


def test_edits_concern_pictures_by_their_bytes() -> None:
    table = {n: TableEntry(n, h, "old", -1.0) for n, h in (("a", "1"), ("b", "1"), ("c", "2"))}
    new, lost = review.apply((Edit("1", " new\u2028text\x00 "), Edit("3", "x")), table)
    assert [(e.alt, e.edited) for e in new.values()] == [("new text", True)] * 2 + [("old", False)]
    assert lost == 1 and table["a"].alt == "old"


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    names = ["a.png", "line\u2028break.png", 'quote".png', "\udcff.png"]  # the last is no UTF-8
    table = {n: TableEntry(n, "0" * 64, "猫", -1.5, {"decoder": [1, 2]}, "full", "m", True) for n in names}
    write(tmp_path / "t", table)
    assert read(tmp_path / "t") == table
    before = (tmp_path / "t").stat().st_mtime_ns
    write(tmp_path / "t", table)
    assert (tmp_path / "t").stat().st_mtime_ns == before
    assert len(clean("x" * 5000)) == 1000
