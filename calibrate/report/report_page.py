"""Pieces of a report in HTML: one file without network or scripts, for light and dark screens.

Arguments that are text are escaped here; what is HTML already is a `Html`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5a6475; --line: #dfe4ec; --ground: #ffffff;
  --card: #f6f8fb; --bar: #2f6fde; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf2; --soft: #a3adbd; --line: #343c4a;
  --ground: #12161d; --card: #1b212b; --bar: #6d9dff; } }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--ground);
  color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
p.note, figcaption { color: var(--soft); font-size: .92rem; }
figure { margin: 1rem 0; }
.scroll { overflow-x: auto; margin-bottom: 1.4rem; }
table { min-width: min(100%, 34rem); border-collapse: collapse; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; }
th, td { padding: .3rem .8rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
td:first-child { white-space: nowrap; }
td.bar { min-width: 9rem; padding-right: 0; }
td.bar span { display: block; height: .8rem; border-radius: 3px; background: var(--bar); }
tr.strong td { font-weight: 600; }
img { max-width: 100%; height: auto; border-radius: 8px; background: #ffffff; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .8rem;
  margin: 1.2rem 0; }
.facts div, blockquote { background: var(--card); border-radius: 10px; padding: .8rem 1rem; }
.facts dt { color: var(--soft); font-size: .88rem; }
.facts dd { margin: 0; font-size: 1.15rem; font-weight: 600; }
.facts dd small { display: block; font-weight: 400; font-size: .85rem; color: var(--soft); }
blockquote { margin: .8rem 0; border-left: 4px solid var(--bar); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .8rem;
  list-style: none; padding: 0; }
.cards li { background: var(--card); border-radius: 10px; padding: .8rem; display: flex; gap: .8rem; }
.cards img { width: 72px; height: 72px; object-fit: contain; flex: none; }
.cards dl { margin: 0; font-size: .88rem; min-width: 0; overflow-wrap: anywhere; }
.cards dt { color: var(--soft); font-size: .8rem; }
.cards dd { margin: 0 0 .3rem; }
pre { background: var(--card); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; }
"""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Html:
    """Escaped, unless it is HTML."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def tag(name: str, *inner: object, **attributes: str) -> Html:
    """An element; `class_` is the attribute class, other underscores are hyphens."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{given}>{''.join(map(text, inner))}</{name}>")


def section(title: str, *inner: object) -> Html:
    """A heading with what belongs to it."""
    return tag("section", tag("h2", title), "\n", *inner)


def table(
    title: str, head: Sequence[str], rows: Sequence[Sequence[object]], *, words: Sequence[int] = (),
    bar: int | None = None, strong: Sequence[int] = (),
) -> Html:  # fmt: skip
    """A table whose first column names its rows.

    words: further columns of text. bar: a column of shares 0 … 1 after which a bar of that length is drawn.
    strong: rows to stress.
    """
    heads = [tag("th", name, scope="col", **_kind(i, words)) for i, name in enumerate(head)]
    if bar is not None:
        heads.insert(bar + 1, tag("td"))
    body = []
    for number, row in enumerate(rows):
        cells = []
        for i, value in enumerate(row):
            shown = f"{value:.1%}" if i == bar and isinstance(value, float) else value
            cells.append(tag("td", shown, **_kind(i, words)))
            if i == bar and isinstance(value, float):
                width = f"width: {100 * min(1.0, max(0.0, value)):.1f}%"
                cells.append(tag("td", tag("span", style=width), class_="bar", aria_hidden="true"))
        body.append(tag("tr", *cells, **({"class_": "strong"} if number in strong else {})))
    inner = tag("thead", tag("tr", *heads)), tag("tbody", *body)
    return tag("div", tag("table", tag("caption", title), *inner), class_="scroll")


def picture(data: bytes, mime: str, description: str) -> Html:
    """An embedded picture."""
    source = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    return Html(f'<img alt="{escape(description)}" src="{source}">')


def definitions(pairs: Sequence[tuple[str, object]]) -> Html:
    """Terms with what they are."""
    return tag("dl", *(part for term, what in pairs for part in (tag("dt", term), tag("dd", what))))


def facts(entries: Sequence[tuple[str, object, object]]) -> Html:
    """The figures to be seen first: term, figure, what to know of it."""
    cards = [tag("div", tag("dt", a), tag("dd", b, tag("small", c))) for a, b, c in entries]
    return tag("dl", *cards, class_="facts")


def document(title: str, *body: object, head: str = "") -> str:
    """The whole page; `head`, HTML already, is what its head holds besides."""
    inner = "\n".join(map(text, body))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n{head}</head>\n<body>\n<main>\n{inner}\n</main>\n"
        "</body>\n</html>\n"
    )


def _kind(column: int, words: Sequence[int]) -> dict[str, str]:
    return {"class_": "text"} if column in words else {}
