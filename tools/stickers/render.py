"""Pictures of the sets as square RGBA arrays, rendered the same way everywhere."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mue_edge.errors import missing_extra
from tools.stickers.names import TONES, normal

NEARLY_EMPTY = 0.02  # share of opaque pixels below which a picture shows nothing


@dataclass(frozen=True)
class Source:
    """One picture before rendering: an SVG text, or the path of a bitmap."""

    emoji: str
    icon: str
    svg: str | None
    path: Path | None = None
    flips: tuple[bool, bool] = (False, False)  # horizontal, vertical
    turns: int = 0  # quarter turns, clockwise


def iconify_sources(folder: Path, table: dict[str, str]) -> Iterator[Source]:
    """The emoji of one iconify package; aliases are drawn with their flips and turns."""
    data: dict[str, Any] = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
    icons: dict[str, Any] = data["icons"]
    aliases: dict[str, Any] = data.get("aliases", {})
    seen: set[tuple[str, str, bool, bool, int]] = set()
    for name in [*sorted(icons), *sorted(aliases)]:
        emoji = table.get(name)
        if emoji is None:
            continue
        parent, flips, turns = name, [False, False], 0
        while parent in aliases:
            step = aliases[parent]
            flips[0] ^= bool(step.get("hFlip"))
            flips[1] ^= bool(step.get("vFlip"))
            turns = (turns + int(step.get("rotate", 0))) % 4
            parent = step["parent"]
        key = (emoji, parent, flips[0], flips[1], turns)
        if parent not in icons or key in seen:
            continue
        seen.add(key)
        yield Source(emoji, name, _svg(icons[parent], data), None, (flips[0], flips[1]), turns)


def _svg(icon: dict[str, Any], data: dict[str, Any]) -> str:
    box = [
        icon.get(key, data.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    ]
    view = " ".join(str(value) for value in box)
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} viewBox="{view}">{icon["body"]}</svg>'


def bitmap_sources(folder: Path, known: set[str]) -> Iterator[Source]:
    """The emoji of `@lobehub/fluent-emoji-3d`, its medium-light and medium skin tones put right.

    Version 1.1.0 has the two swapped: brightness falls monotonically with the tone in 1 of 297
    families as packed, in 149 of 297 after the exchange.
    """
    swap = {TONES[1]: TONES[2], TONES[2]: TONES[1]}
    for path in sorted((folder / "assets").glob("*.webp")):
        emoji = normal(path.stem)
        emoji = "-".join(swap.get(part, part) for part in emoji.split("-"))
        if emoji in known:
            yield Source(emoji, path.stem, None, path)


def draw(source: Source, size: int) -> NDArray[np.uint8]:
    """The picture as [size, size, 4] RGBA, centred, made at twice the size and reduced by Lanczos."""
    if source.svg is not None:
        image = _rasterise(source.svg, 2 * size)
    else:
        assert source.path is not None
        with Image.open(source.path) as opened:
            image = opened.convert("RGBA")
    scale = 2 * size / max(image.size)
    if scale != 1:
        image = image.resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
        )
    square = Image.new("RGBA", (2 * size, 2 * size), (0, 0, 0, 0))
    square.paste(image, ((2 * size - image.width) // 2, (2 * size - image.height) // 2))
    if source.flips[0]:
        square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if source.flips[1]:
        square = square.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if source.turns:
        square = square.rotate(-90 * source.turns)
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS), dtype=np.uint8)


def _rasterise(svg: str, side: int) -> Image.Image:
    try:
        import resvg_py
    except ImportError as problem:
        raise missing_extra("resvg-py", "stickers") from problem
    png = resvg_py.svg_to_bytes(svg_string=svg, width=side, skip_system_fonts=True)
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    if image.height > side:  # a tall drawing: fit by height instead
        png = resvg_py.svg_to_bytes(svg_string=svg, height=side, skip_system_fonts=True)
        image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    return image


def nearly_empty(pixels: NDArray[np.uint8]) -> bool:
    """Whether hardly anything is drawn."""
    return bool((pixels[..., 3] > 127).mean() < NEARLY_EMPTY)


def digest(pixels: NDArray[np.uint8]) -> str:
    """Identity of a rendered picture."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def on_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGBA [..., 4] composited on white, as RGB [..., 3]."""
    alpha = pixels[..., 3:].astype(np.float32) / 255
    colour = pixels[..., :3].astype(np.float32) * alpha + 255 * (1 - alpha)
    return (colour + 0.5).astype(np.uint8)
