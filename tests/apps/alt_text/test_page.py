"""An HTML page's images: which there are, and that nothing but their alt changes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mue_edge.apps.alt_text import page as pages
from mue_edge.apps.alt_text.page import Page
from mue_edge.errors import InputFileError


def made(folder: Path, html: str | bytes) -> Page:
    path = folder / "page.html"
    path.write_bytes(html if isinstance(html, bytes) else html.encode())
    return pages.read(path)


# What stands there, and the same with "A & B" as the alt text of the first image.
FORMS = {
    "no alt": ('<p><img src="a.png"></p>', '<p><img alt="A &amp; B" src="a.png"></p>'),
    "empty": ('<img src="a.png" alt="">', '<img src="a.png" alt="A &amp; B">'),
    "single quotes": ("<img alt='' src=a.png>", '<img alt="A &amp; B" src=a.png>'),
    "no value": ("<img alt src=a.png>", '<img alt="A &amp; B" src=a.png>'),
    "equals, no value": ("<img src=a.png alt= >", '<img src=a.png alt="A &amp; B">'),
    "capitals": ("<IMG SRC='a.png' ALT=''/>", "<IMG SRC='a.png' alt=\"A &amp; B\"/>"),
    "self-closing": ("<img src='a.png'/>", "<img alt=\"A &amp; B\" src='a.png'/>"),
    "several lines": ("<img\n  src='a.png'\r\n  alt = ''\n>", "<img\n  src='a.png'\r\n  alt=\"A &amp; B\"\n>"),
    "alt in a value": ('<img title="alt=" src="a.png">', '<img alt="A &amp; B" title="alt=" src="a.png">'),
    "data-alt": ('<img data-alt="" src="a.png">', '<img alt="A &amp; B" data-alt="" src="a.png">'),
    "bracket in a value": ('<img title="a > b" src=a.png>', '<img alt="A &amp; B" title="a > b" src=a.png>'),
    "odd white space": ("é\x85<img\x0csrc=a.png>\x85", 'é\x85<img alt="A &amp; B"\x0csrc=a.png>\x85'),
    "twice: the first counts": ('<img alt="" alt="x" src=a>', '<img alt="A &amp; B" alt="x" src=a>'),
}


@pytest.mark.parametrize("form", FORMS)
def test_only_the_alt_changes(tmp_path: Path, form: str) -> None:
    before, after = FORMS[form]
    page = made(tmp_path, before)
    assert len(page.images) == 1 and not page.odd
    text = pages.filled(page, {0: "A & B"})
    assert text == after
    pages.write(page, text, page.path)
    assert page.path.read_bytes() == after.encode()
    assert pages.read(page.path).images[0].alt == "A & B"


@pytest.mark.parametrize(
    "html",
    ["<!-- <img src=a> -->", "<script>'<img src=a>'</script>", "<textarea><img src=a></textarea>",
     "<title><img src=a></title>", "<style>/*<img src=a>*/</style>", "<iframe><img src=a></iframe>",
     '<p title="<img src=a>">', "<image src=a>", "<img src=a"],
)  # fmt: skip
def test_what_is_no_image_is_none(tmp_path: Path, html: str) -> None:
    page = made(tmp_path, html + "<img src=b>" * (not html.endswith("a")))
    assert [i.src for i in page.images] == ["b"] * (not html.endswith("a"))


def test_hostile_alt_text_stays_one_attribute(tmp_path: Path) -> None:
    page = made(tmp_path, "<img src=a><img src=b>")
    alt = "\"><script>alert(1)</script>' onerror=x &quot;"
    pages.write(page, pages.filled(page, {0: alt}), page.path)
    again = pages.read(page.path)
    assert [i.alt for i in again.images] == [alt, None]
    assert "<script" not in again.text


@pytest.mark.parametrize(
    ("data", "encoding"),
    [(b"\xef\xbb\xbf<img src=a>\xff", None), (b"\xef\xbb\xbf<img src=a>", "utf-8"),
     ("<meta charset=latin1>\xe9<img src=a>".encode("latin-1"), "windows-1252"),
     (b"<meta charset='shift_jis'>\x83\x5c<img src=a>", "shift_jis"),
     ("<img src=a>é".encode("utf-16"), "utf-16-le"), (b"\xe9<img src=a>", "windows-1252"),
     (b"<meta charset=utf-8>\xe9<img src=a>", None), (b"<meta charset=klingon><img src=a>", None)],
)  # fmt: skip
def test_every_other_byte_is_kept_in_its_encoding(tmp_path: Path, data: bytes, encoding: str | None) -> None:
    if encoding is None:
        with pytest.raises(InputFileError, match=r"page\.html"):
            made(tmp_path, data)
        return
    page = made(tmp_path, data)
    assert page.encoding == encoding
    pages.write(page, page.text, page.path)
    assert page.path.read_bytes() == data
    pages.write(page, pages.filled(page, {0: "猫 ☂"}), page.path)
    assert pages.read(page.path).images[0].alt == "猫 ☂"
    assert len(page.path.read_bytes()) > len(data)


def test_a_page_keeps_its_permissions_and_its_link(tmp_path: Path) -> None:
    page = made(tmp_path, "<img src=a>")
    page.path.chmod(0o600)
    link = tmp_path / "link.html"
    link.symlink_to(page.path)
    pages.write(page, "<img>", link)
    assert link.is_symlink() and page.path.read_text() == "<img>"
    assert stat.S_IMODE(page.path.stat().st_mode) == 0o600


def test_only_files_inside_of_the_folder_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    (folder / "img").mkdir(parents=True)
    for place in (tmp_path / "secret.png", folder / "a b.png", folder / "img" / "ü.png"):
        place.write_bytes(b"x")
    (folder / "way-out.png").symlink_to(tmp_path / "secret.png")
    html = "".join(
        f'<img src="{src}">'
        for src in (
            "a%20b.png?x=1#y",
            "img/%C3%BC.png",
            "img/../a b.png",
            " a&#32;b.png ",
            "../secret.png",
            "%2e%2e/secret.png",
            "way-out.png",
            "/a b.png",
            "//host/a.png",
            "file:///etc/passwd",
            "data:image/png;base64,AA",
            "none.png",
            "",
            "http://[",
            "a\x00.png",
        )
    )
    page = made(folder, html)
    found = [page.local(image) for image in page.images]
    spaced, umlaut = folder / "a b.png", folder / "img" / "ü.png"
    assert found[:4] == [spaced, umlaut, spaced, spaced]
    assert not [f for f in found[4:] if not isinstance(f, str)]
    assert [str(f).split()[2] for f in found[4:7]] == ["outside"] * 3
    assert page.local(page.images[7], folder) == spaced  # the site's root was named
    assert "does not exist" in str(page.local(page.images[7], tmp_path))
    assert page.local(page.images[4], tmp_path) == tmp_path / "secret.png"


def test_a_base_moves_the_paths(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "a.png").write_bytes(b"x")
    assert made(tmp_path, "<base href='img/'><img src=a.png>").local(pages.read(tmp_path / "page.html").images[0]) == (
        tmp_path / "img" / "a.png"
    )
    page = made(tmp_path, "<base href='https://e.org/'><img src=img/a.png>")
    assert page.local(page.images[0]) == "it is not a local file"


def test_a_page_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_BYTES", 10)
    with pytest.raises(InputFileError, match="larger"):
        made(tmp_path, "<img src=abc>")


PIECES = st.sampled_from(
    ["<img", " src=a.png", " alt", "=", '""', "''", ' alt=""', ' alt="x"', ">", "/>", "/", " ", "\n", "é",
     '"', "<p>", "</p>", "<!--", "-->", "<script>", "</script>", "x", "&amp;", "<img src='b'>",
     "\x85", "\xa0", "<"]
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, max_size=25))
def test_whatever_the_page_only_alts_change(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    page = made(tmp_path_factory.getbasetemp(), "".join(parts))
    text = pages.filled(page, dict.fromkeys(range(len(page.images)), "alt > text"))
    again = made(tmp_path_factory.getbasetemp(), text)
    assert [i.alt for i in again.images] == ["alt > text"] * len(page.images)
    # An attribute that is put in brings its space with it.
    assert without(page).replace(" ", "") == without(again).replace(" ", "")


def without(page: Page) -> str:
    """The page's text without its alt attributes."""
    text = page.text
    for image in reversed(page.images):
        text = text[: image.start] + text[image.end :]
    return text
