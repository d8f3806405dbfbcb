"""The page's icon: four layers of which the last are skipped."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

GREEN, PALE, FADED = "#0b6b5b", "#f6f5f1", "#4f9a8c"


def icon(size: int) -> bytes:
    """A square PNG. Everything stands within the middle 80 %, which every mask leaves visible."""
    picture = Image.new("RGB", (size, size), GREEN)
    draw = ImageDraw.Draw(picture)
    unit = size / 100
    for i, colour in enumerate((PALE, PALE, FADED, FADED)):
        left, top = (20 + 16 * i) * unit, 24 * unit
        draw.rounded_rectangle((left, top + 8 * i * unit, left + 11 * unit, 76 * unit), radius=4 * unit, fill=colour)
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return out.getvalue()
