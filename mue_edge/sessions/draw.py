"""A caption's exits as a drawing: words as columns, decoder layers as cells, encoder stacks as bars.

`of` takes from a caption what is drawn; `as_text` is for terminals, `as_svg` for pages.
Standard library only, but for the picture that an SVG may hold (Pillow).
"""

from __future__ import annotations

import base64
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from mue_edge.inputs.tokens import Tokenizer
from mue_edge.loop.protocol import DECODER, DeadlineResult, Layout, PolicyChange
from mue_edge.sessions.captioner import Caption

if TYPE_CHECKING:
    from PIL.Image import Image

RUN, SKIPPED = "█", "·"
INK, GREY, PALE, BLUE = "#1c2430", "#667085", "#e4e8ef", "#2f6fde"
FONT = 'font-family="system-ui, Segoe UI, Helvetica, Arial, sans-serif"'


@dataclass(frozen=True)
class Bar:
    """Layers run of one encoder stack or decoder step; `score` is that of the test that ended it."""

    label: str
    depth: int
    layers: int
    score: float | None


@dataclass(frozen=True)
class Drawing:
    """A caption, its encoder stacks, one column a decoder step, and what a deadline did to it."""

    text: str
    encoder: tuple[Bar, ...]
    steps: tuple[Bar, ...]
    layers: int
    deadline: str = ""

    @property
    def mean(self) -> float:
        """Mean decoder layers a step."""
        return sum(s.depth for s in self.steps) / max(1, len(self.steps))


def drawing_of(caption: Caption, layout: Layout, tokenizer: Tokenizer) -> Drawing:
    """What is drawn of a caption. Steps beyond its last token (other beams went on) have no word."""
    scores = {(d.stack, d.step): min(d.scores, default=None) for d in caption.decisions if d.exit}
    encoder = [
        Bar(s.name, caption.exits[s.name], s.depth, scores.get((s.name, 0)))
        for s in sorted(layout.encoders, key=lambda s: s.name)
    ]
    words = [_word(tokenizer, token) for token in caption.tokens]
    total, steps = layout.decoder.depth, caption.exits[DECODER]
    columns = [
        Bar(words[t] if t < len(words) else "", depth, total, scores.get((DECODER, t))) for t, depth in enumerate(steps)
    ]
    clock = f"deadline {deadline_summary(caption.deadline)}" if caption.deadline else ""
    return Drawing(caption.text, tuple(encoder), tuple(columns), total, clock)


def deadline_summary(done: DeadlineResult) -> str:
    """What the clock did, in a line: "50 ms: took 43.1 ms; full, fast from token 3; cut short"."""
    changes = [c.policy + (f" from {_position(c)}" if i else "") for i, c in enumerate(done.changes)]
    parts = [f"{done.limit * 1000:g} ms: took {done.finished * 1000:.1f} ms"]
    parts += [", ".join(changes)] if changes else []
    parts += [f"exits forced by the clock: {done.forced}"] if done.forced else []
    parts += ["cut short"] if done.cut_short else []
    return "; ".join(parts)


def _position(change: PolicyChange) -> str:
    position = f"token {change.step + 1}" if change.stack == DECODER else change.stack
    return f"{position} layer {change.depth + 1}" if change.depth else position


def _word(tokenizer: Tokenizer, token: int) -> str:
    if token == tokenizer.eos:
        return "end"
    return tokenizer.decode([token]).strip() or tokenizer.pieces[token]


def as_text(drawing: Drawing, width: int = 100) -> str:
    """Lines for a terminal of `width` columns; long captions continue in further blocks."""
    lines = []
    for bar in drawing.encoder:
        cells = RUN * bar.depth + SKIPPED * (bar.layers - bar.depth)
        lines.append(f"{bar.label:<9}{cells}  {bar.depth} of {bar.layers} layers{_score(bar, ', left at score ')}")
    total = drawing.layers
    cell = max(6, 0, *(_width(s.label) for s in drawing.steps)) + 1
    a_line = max(1, (width - 9) // cell)
    for start in range(0, len(drawing.steps), a_line):
        steps = drawing.steps[start : start + a_line]
        lines.append(f"{DECODER:<9}" + _row([s.label for s in steps], cell))
        for layer in range(total, 0, -1):
            marks = [RUN * 3 if layer <= s.depth else SKIPPED for s in steps]
            lines.append(f" layer {layer:<2}" + _row(marks, cell))
        if any(s.score is not None for s in steps):
            lines.append("  score  " + _row([_score(s) for s in steps], cell))
    lines.append(f"{DECODER:<9}{drawing.mean:.2f} of {total} layers a token on average")
    if drawing.deadline:
        lines.append(drawing.deadline)
    return "\n".join(line.rstrip() for line in lines)


def _row(labels: Sequence[str], cell: int) -> str:
    return "".join(label + " " * (cell - _width(label)) for label in labels)


def _score(bar: Bar, before: str = "") -> str:
    return "" if bar.score is None else f"{before}{bar.score:.4f}"


def _width(text: str) -> int:
    """Terminal columns: East Asian wide characters take two, combining ones none."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def as_svg(drawing: Drawing, picture: Image | None = None) -> str:
    """An SVG document: the picture (embedded as PNG), the caption, encoder bars, decoder cells."""
    side = 200 if picture is not None else 0
    x0 = side + 24 + (24 if side else 0)
    label = 62
    widths = [max(46.0, 8.6 * _width(s.label) + 14) for s in drawing.steps]
    total = drawing.layers
    body: list[str] = [_text(x0, 44, drawing.text, 22, INK, "600")]
    y = 72.0
    for bar in drawing.encoder:
        body.append(_text(x0, y + 12, bar.label, 13, GREY))
        body += [_cell(x0 + label + 22 * i, y, 18, 14, i < bar.depth) for i in range(bar.layers)]
        after = f"{bar.depth} of {bar.layers} layers"
        body.append(_text(x0 + label + 22 * bar.layers + 6, y + 12, after, 13, GREY))
        y += 24
    y += 10
    body.append(_text(x0, y + 18 * total - 4, DECODER, 13, GREY))
    x = float(x0 + label)
    for step, width in zip(drawing.steps, widths):
        body += [_cell(x, y + 18 * (total - 1 - i), width - 4, 14, i < step.depth) for i in range(total)]
        body.append(_text(x + (width - 4) / 2, y + 18 * total + 16, step.label, 15, INK, "400", "middle"))
        x += width
    y += 18 * total + 44
    note = f"{drawing.mean:.2f} of {total} {DECODER} layers a token; blue cells were run, grey ones were not"
    body.append(_text(x0, y, note, 13, GREY))
    if drawing.deadline:
        y += 20
        body.append(_text(x0, y, drawing.deadline, 13, GREY))
    wide = max(x, x0 + 6.6 * max(len(note), len(drawing.deadline)), x0 + 14 * _width(drawing.text)) + 24
    high = max(y + 22, side + 48)
    if picture is not None:
        body.append(_picture(picture, side))
    frame = f'<rect width="{wide:.0f}" height="{high:.0f}" rx="12" fill="#ffffff" stroke="{PALE}"/>'
    size = f'width="{wide:.0f}" height="{high:.0f}" viewBox="0 0 {wide:.0f} {high:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    title = f"<title>{escape(drawing.text)}: {drawing.mean:.2f} of {total} decoder layers a token</title>"
    return "\n".join([head, title, frame, *body, "</svg>", ""])


def _text(x: float, y: float, text: str, size: int, colour: str, weight: str = "400", anchor: str = "start") -> str:
    attributes = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text {attributes} fill="{colour}" {FONT}>{escape(text)}</text>'


def _cell(x: float, y: float, width: float, height: float, run: bool) -> str:
    attributes = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3"'
    return f'<rect {attributes} fill="{BLUE if run else PALE}"/>'


def _picture(picture: Image, side: int) -> str:
    thumbnail = picture.copy()
    thumbnail.thumbnail((2 * side, 2 * side))  # sharp on dense screens
    buffer = io.BytesIO()
    thumbnail.save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<image x="24" y="24" width="{side}" height="{side}" href="data:image/png;base64,{data}"/>'
