"""A contact sheet of pictures that were captioned wrongly, as one small WebP."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

COLUMNS, TILE, PICTURE, LINE, LINES = 6, 168, 96, 14, 4
NAME, WRONG = "#1c2430", "#b42318"


def sheet(tiles: Sequence[tuple[Image.Image, str, str]]) -> bytes:
    """Pictures (RGB), each with its name and below it, in red, what the model said; WebP."""
    height = PICTURE + 2 * LINES * LINE + 20
    rows = -(-len(tiles) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * TILE, max(1, rows) * height), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    for i, (picture, name, said) in enumerate(tiles):
        left, top = i % COLUMNS * TILE, i // COLUMNS * height
        page.paste(picture.resize((PICTURE, PICTURE)), (left + (TILE - PICTURE) // 2, top + 6))
        y = top + PICTURE + 12
        for text, colour in ((name, NAME), (said, WRONG)):
            for line in textwrap.wrap(text or "(nothing)", 25)[:LINES]:
                draw.text((left + TILE / 2, y), line, colour, font, anchor="ma")
                y += LINE
    file = BytesIO()
    page.save(file, "WEBP", quality=70, method=6)
    return file.getvalue()
