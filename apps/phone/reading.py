"""What the app shows of a caption, without any widget."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from mue_edge import draw
from mue_edge.captioner import Caption
from mue_edge.protocol import Layout
from mue_edge.tokens import Tokenizer


@dataclass(frozen=True)
class Row:
    """Layers that the picture, or one word, ran."""

    label: str
    depth: int
    layers: int

    @property
    def count(self) -> str:
        return f"{self.depth} of {self.layers}"


@dataclass(frozen=True)
class Reading:
    """A caption for people: its text, layers run by row, and where the time went."""

    text: str
    rows: tuple[Row, ...]
    times: str


def reading(caption: Caption, layout: Layout, tokenizer: Tokenizer) -> Reading:
    """Of a caption; the prompt's own text stack is left out, since it never depends on the picture."""
    drawing = draw.of(caption, layout, tokenizer)
    pictures = [Row("the picture", b.depth, b.layers) for b in drawing.encoder if b.label != "text"]
    words = [Row("the end" if s.label == "end" else s.label, s.depth, s.layers) for s in drawing.steps]
    prepare, total = caption.seconds["preprocess"] * 1000, caption.seconds["total"] * 1000
    times = (
        f"{total:.0f} ms: picture {prepare:.0f} ms, model {total - prepare:.0f} ms in {caption.calls} calls; "
        f"{drawing.mean:.1f} of {drawing.layers} decoder layers a token"
    )
    return Reading(caption.text or "(no words)", (*pictures, *words), times)


def wrapped(text: str, width: int) -> str:
    """Lines of at most `width` characters, since Toga's labels do not wrap."""
    return "\n".join(textwrap.wrap(text, width)) or text
