"""Small SVG charts without a plotting library: curves, and a heat map of values by two depths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

INK, GREY, PALE = "#1c2430", "#667085", "#e4e8ef"
FONT = 'font-family="system-ui, Segoe UI, Helvetica, Arial, sans-serif"'
_LOW, _HIGH = (0xEA, 0xF1, 0xFE), (0x1B, 0x4F, 0xBF)
_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 320, 64, 24


def lines(curves: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str) -> str:
    """Curves of points (x, y), named at the right; those named `val …` are dashed.

    Without a point, an empty frame.
    """
    points = [point for curve in curves.values() for point in curve]
    x0, x1 = _range([x for x, _ in points])
    y0, y1 = _range([y for _, y in points])

    def position(x: float, y: float) -> tuple[float, float]:
        return _LEFT + (x - x0) / (x1 - x0) * _WIDTH, _TOP + (y1 - y) / (y1 - y0) * _HEIGHT

    body = [f'<rect x="{_LEFT}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="{PALE}"/>']
    for value in _ticks(y0, y1):
        y = position(x0, value)[1]
        body.append(f'<path d="M{_LEFT} {y:.1f}h{_WIDTH}" stroke="{PALE}"/>')
        body.append(_text(_LEFT - 8, y + 4, f"{value:g}", "end"))
    body += [_text(position(v, y0)[0], _TOP + _HEIGHT + 18, f"{v:g}", "middle") for v in _ticks(x0, x1)]
    body.append(_text(_LEFT + _WIDTH / 2, _TOP + _HEIGHT + 38, across, "middle"))
    body.append(_text(_LEFT, _TOP - 8, up, "start"))
    kinds = list(dict.fromkeys(name.removeprefix("val ") for name in curves))
    for i, (name, curve) in enumerate(curves.items()):
        placed = [position(*point) for point in curve]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        colour = f"hsl({360 * kinds.index(name.removeprefix('val ')) / len(kinds):.0f}, 60%, 42%)"
        dash = ' stroke-dasharray="5 4"' if name.startswith("val ") else ""
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
        body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in placed[-1:]]
        body.append(_text(_LEFT + _WIDTH + 12, _TOP + 14 + 18 * i, name, "start", colour))
    return _svg(_LEFT + _WIDTH + 130, max(_TOP + _HEIGHT + 52, _TOP + 18 * len(curves) + 20), body, up)


def heat_map(values: Mapping[tuple[int, int], float], title: str) -> str:
    """Values by (encoder layers, decoder layers), the largest darkest; pairs without a value are white."""
    rows, columns = sorted({r for r, _ in values}), sorted({c for _, c in values})
    low, high = _range(list(values.values()))
    wide, tall, left, top = 74, 40, 104, 56
    bottom = top + tall * len(rows)
    body = [_text(left, 26, title, "start", INK, 16), _text(left, 46, "encoder layers", "end")]
    for (row, column), value in values.items():
        x, y = left + wide * columns.index(column), bottom - tall * (rows.index(row) + 1)
        share = (value - low) / (high - low)
        colour = "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(_LOW, _HIGH))
        body.append(f'<rect x="{x}" y="{y}" width="{wide - 3}" height="{tall - 3}" rx="4" fill="{colour}"/>')
        ink = "#ffffff" if share > 0.5 else INK
        body.append(_text(x + (wide - 3) / 2, y + tall / 2 + 4, f"{value:.3g}", "middle", ink, 14))
    body += [_text(left - 12, bottom - tall * (i + 0.5) + 3, str(r), "end") for i, r in enumerate(rows)]
    body += [_text(left + wide * (i + 0.5), bottom + 18, str(c), "middle") for i, c in enumerate(columns)]
    body.append(_text(left + wide * len(columns) / 2, bottom + 38, "decoder layers", "middle"))
    return _svg(max(left + wide * len(columns) + 24, left + 9 * len(title) + 24), bottom + 54, body, title)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest, apart even where all are equal."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers within the range."""
    power = 10 ** math.floor(math.log10((high - low) / 4))
    step = next(power * k for k in (5, 2, 1) if power * k <= (high - low) / 4)
    return [round(step * k, 12) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _text(x: float, y: float, text: str, anchor: str, colour: str = GREY, size: int = 13) -> str:
    position = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {position} fill="{colour}" {FONT}>{escape(text)}</text>'


def _svg(width: float, height: float, body: Sequence[str], title: str) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    ground = f'<rect width="{width:.0f}" height="{height:.0f}" rx="12" fill="#ffffff"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", ground, *body, "</svg>", ""])
