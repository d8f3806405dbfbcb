"""Pieces of a report in HTML: one file without network or scripts, for light and dark screens.

Arguments that are text are escaped here; what is HTML already is a `Html`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

_STYLE = "\n" + Path(__file__).with_name("page.css").read_text(encoding="utf-8")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Html:
    """Escaped, unless it is HTML."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def tag(name: str, *inner: object, **attributes: str) -> Html:
    """An element; `class_` is the attribute class, other underscores are hyphens."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>{''.join(map(text, inner))}</{name}>")


def section(title: str, *inner: object) -> Html:
    """A heading with what belongs to it."""
    return tag("section", tag("h2", title), "\n", *inner)


def table(
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    words: Sequence[int] = (),
    bar: int | None = None,
    strong: Sequence[int] = (),
) -> Html:
    """A table whose first column names its rows.

    words: further columns of text. bar: a column of shares 0 … 1 after which a bar of that length is drawn.
    strong: rows to stress.
    """

    def cell(name: str, column: int, value: object, **attributes: str) -> Html:
        return tag(name, value, **attributes, **({"class_": "text"} if column in words else {}))

    heads = [cell("th", i, name, scope="col") for i, name in enumerate(head)]
    if bar is not None:
        heads.insert(bar + 1, tag("td"))
    body = []
    for number, row in enumerate(rows):
        cells = []
        for i, value in enumerate(row):
            if i != bar or not isinstance(value, float):
                cells.append(cell("td", i, value))
                continue
            width = f"width: {100 * min(1.0, max(0.0, value)):.1f}%"
            cells.append(cell("td", i, f"{value:.1%}"))
            cells.append(tag("td", tag("span", style=width), class_="bar", aria_hidden="true"))
        body.append(tag("tr", *cells, **({"class_": "strong"} if number in strong else {})))
    inner = tag("thead", tag("tr", *heads)), tag("tbody", *body)
    return tag("div", tag("table", tag("caption", title), *inner), class_="scroll")


def picture(data: bytes, mime: str, description: str) -> Html:
    """An embedded picture."""
    source = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    return Html(f'<img alt="{escape(description)}" src="{source}">')


def document(title: str, *body: object, head: str = "") -> str:
    """The whole page; `head`, HTML already, is what its head holds besides."""
    inner = "\n".join(map(text, body))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n{head}</head>\n<body>\n<main>\n{inner}\n</main>\n"
        "</body>\n</html>\n"
    )
