"""The images of an HTML page, and the page with alt text in them and every other byte as it was.

The standard library's parser finds the tags; a tag is changed only where a second reading of its attributes
agrees with the parser's, and only the attribute `alt` is. What cannot be read so is left alone and reported.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from mue_edge.errors import InputFileError, VerificationError
from mue_edge.files import atomic_write

MAX_BYTES = 32 << 20
SUFFIXES = frozenset({".html", ".htm", ".xhtml"})

# What stands in these elements is text, not tags.
_TEXT = frozenset({"script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"})

_SPACE = r"\t\n\f\r "
_NAME = re.compile(rf"<[A-Za-z][^{_SPACE}/>]*")
_ATTRIBUTE = re.compile(
    rf"""[{_SPACE}/]*([^{_SPACE}/>=]+)(?:[{_SPACE}]*=[{_SPACE}]*("[^"]*"|'[^']*'|[^{_SPACE}>"']*))?"""
)
_CHARSET = re.compile(rb"""<meta[^>]*?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]+)""", re.IGNORECASE)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# WHATWG's Encoding Standard: pages that name these mean windows-1252.
_LATIN = frozenset({"iso8859-1", "ascii"})


@dataclass(frozen=True)
class Image:
    """An <img>. start, end: where its alt attribute stands in the page's text, or where one goes
    (start = end). alt: None if there is none. decorative: marked as not to be read to anyone."""

    line: int
    start: int
    end: int
    src: str | None
    alt: str | None
    decorative: bool = False


@dataclass(frozen=True)
class Page:
    """A page's text, how it is encoded, its images, and the tags that were not understood, by line."""

    path: Path
    text: str
    encoding: str
    base: str
    images: tuple[Image, ...]
    odd: tuple[int, ...]

    def local(self, image: Image, root: Path | None = None) -> Path | str:
        """The file behind an image, or why there is none to read.

        Only files in the page's folder, or in `root`, the site's, are read; links that leave it are not.
        """
        if not image.src or not image.src.strip():
            return "it has no src"
        try:
            parts = urlsplit(urljoin(self.base, image.src.strip()))
            name = unquote(parts.path, errors="strict")
            if parts.scheme or parts.netloc:
                return "it is embedded" if parts.scheme == "data" else "it is not a local file"
            folder = (root or self.path.parent).resolve()
            if name.startswith("/") and root is None:
                return "its path starts at the site's root; name that folder with --root"
            start = folder if name.startswith("/") else self.path.resolve().parent
            file = (start / name.lstrip("/")).resolve()
            inside = file.is_relative_to(folder)
            there = inside and file.is_file()
        except (ValueError, OSError):
            return "its src is not a path"
        if not inside:
            return f"it is outside of {root or 'the folder of the page'}"
        return file if there else "the file does not exist"


def read(path: Path) -> Page:
    """Read a page. Raises InputFileError if it is too large, or not text in the encoding that it names."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as problem:
        raise InputFileError(f"{path} cannot be read: {problem.strerror}") from problem
    if len(data) > MAX_BYTES:
        raise InputFileError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
    encoding = _encoding(data, path)
    text = data.decode(encoding)
    return _parsed(path, text, encoding)


def filled(page: Page, alts: Mapping[int, str]) -> str:
    """The page's text with these alts, by the images' numbers.

    Raises VerificationError should it not read back as the same page with these alts.
    """
    text = page.text
    for number in sorted(alts, reverse=True):
        image = page.images[number]
        value = f'alt="{_escaped(alts[number], page.encoding)}"'
        if image.start == image.end:
            value = f" {value}"
        text = text[: image.start] + value + text[image.end :]
    again = _parsed(page.path, text, page.encoding).images
    want = [(i.src, alts.get(n, i.alt)) for n, i in enumerate(page.images)]
    if [(i.src, i.alt) for i in again] != want:
        raise VerificationError(f"{page.path} would read otherwise with alt text in it; left as it is")
    return text


def write(page: Page, text: str, out: Path) -> None:
    """Write `text` as that page's bytes; a page that exists keeps its permissions and its link."""
    target = out.resolve()
    mode = target.stat().st_mode & 0o777 if target.is_file() else 0o644
    atomic_write(target, text.encode(page.encoding))
    target.chmod(mode)


def _escaped(alt: str, encoding: str) -> str:
    """For a double-quoted attribute; characters that the encoding lacks as references."""
    return escape(alt).encode(encoding, "xmlcharrefreplace").decode(encoding)


def _encoding(data: bytes, path: Path) -> str:
    """What the bytes are in: by their mark, by the page's own word, else UTF-8 or windows-1252."""
    marked = next((name for bom, name in _BOMS if data.startswith(bom)), None)
    named = _CHARSET.search(data[:4096])
    candidates = [marked] if marked else ["utf-8", "windows-1252"]
    if not marked and named:
        label = named[1].decode("ascii")
        try:
            name = codecs.lookup(label).name
        except LookupError as problem:
            raise InputFileError(f"{path} names an unknown encoding, {label!r}") from problem
        # A page that could be read up to this word is no UTF-16, whatever it says.
        candidates = ["windows-1252" if name in _LATIN else "utf-8" if name.startswith("utf-16") else name]
    for name in candidates:
        try:
            if data.decode(name).encode(name) == data:
                return name
        except (ValueError, LookupError):
            continue
    raise InputFileError(
        f"{path} is not text in {' or '.join(candidates)}, so its bytes could not be kept; save it as UTF-8"
    )


def _parsed(path: Path, text: str, encoding: str) -> Page:
    finder = _Finder(text)
    finder.feed(text)
    finder.close()
    return Page(path, text, encoding, finder.base or "", tuple(finder.images), tuple(finder.odd))


class _Finder(HTMLParser):
    """Collects the images of one text, which is fed whole."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[Image] = []
        self.odd: list[int] = []
        self.base: str | None = None
        self._text = text
        self._lines = [0, *(m.end() for m in re.finditer("\n", text))]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(reversed(attrs))  # of attributes that stand there twice, the first counts
        if tag == "base" and self.base is None:
            self.base = values.get("href")
        if tag in _TEXT:
            self.set_cdata_mode(tag)
        if tag != "img":
            return
        line, column = self.getpos()
        start, raw = self._lines[line - 1] + column, self.get_starttag_text() or ""
        spans = _attributes(raw)
        if not self._text.startswith(raw, start) or [n for n, _, _ in spans] != [n for n, _ in attrs]:
            self.odd.append(line)
            return
        name = _NAME.match(raw)
        at = name.end() if name else 0
        first, last = next(((a, b) for n, a, b in spans if n == "alt"), (at, at))
        alt = (values["alt"] or "") if "alt" in values else None
        hidden = values.get("role") in ("presentation", "none") or values.get("aria-hidden") == "true"
        self.images.append(Image(line, start + first, start + last, values.get("src"), alt, hidden))


def _attributes(raw: str) -> list[tuple[str, int, int]]:
    """(name, start, end) of a start tag's attributes, by the grammar of the HTML standard."""
    name = _NAME.match(raw)
    at, spans = name.end() if name else len(raw), []
    while match := _ATTRIBUTE.match(raw, at):
        spans.append((match[1].lower(), match.start(1), match.end()))
        at = match.end()
    return spans
