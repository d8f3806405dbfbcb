"""What the app shows of a caption, or of an answer about a statement, without any widget."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from mue_edge.inputs.tokens import Tokenizer
from mue_edge.loop.protocol import PICTURE, Layout
from mue_edge.sessions import draw
from mue_edge.sessions.captioner import Caption
from mue_edge.sessions.entailer import Entailment


@dataclass(frozen=True)
class DepthRow:
    """Layers that the picture, a statement or one word ran; of several words their mean."""

    label: str
    depth: float
    layers: int

    @property
    def count(self) -> str:
        return f"{self.depth:.2g} of {self.layers}"


@dataclass(frozen=True)
class Reading:
    """A caption or an answer for people.

    text: shown large. spoken: what is read aloud, and said of the picture. rows: layers run. times: where
    the time went. shares: how likely each answer is. note: what to know about the statement.
    """

    text: str
    spoken: str
    rows: tuple[DepthRow, ...]
    times: str
    shares: str = ""
    note: str = ""


def captioned(caption: Caption, layout: Layout, tokenizer: Tokenizer) -> Reading:
    """Of a caption; the prompt's own text stack is left out, since it never depends on the picture."""
    drawing = draw.drawing_of(caption, layout, tokenizer)
    reads = {stack.name: stack.reads for stack in layout.encoders if stack.reads}
    pictures = [DepthRow(reads[b.label], b.depth, b.layers) for b in drawing.encoder if b.label in reads]
    words = [DepthRow("the end" if s.label == "end" else s.label, s.depth, s.layers) for s in drawing.steps]
    mean = f"{drawing.mean:.1f} of {drawing.layers} decoder layers a token"
    times = f"{_times(caption.seconds, caption.calls)}; {mean}"
    text = caption.text or "(no words)"
    return Reading(text, text, (*pictures, *words), times)


def judged(result: Entailment, statement: str, layout: Layout, note: str = "") -> Reading:
    """Of an answer. It names the statement: what stands in the field may be another one by now."""
    stacks = sorted(layout.encoders, key=lambda stack: stack.source != PICTURE)  # what is seen comes first
    inputs = [DepthRow(s.reads, result.exits[s.name], s.depth) for s in stacks if s.reads]
    rows = (*inputs, DepthRow("the answer", result.decoder_layers, layout.decoder.depth))
    shares = ", ".join(f"{answer} {share:.0%}" for answer, share in result.probabilities.items())
    spoken, times = f"{statement}? {result.answer}", _times(result.seconds, result.calls)
    return Reading(result.answer, spoken, rows, times, f"“{statement}”: {shares}", note)


def _times(seconds: Mapping[str, float], calls: int) -> str:
    prepare, total = seconds["preprocess"] * 1000, seconds["total"] * 1000
    return f"{total:.0f} ms: picture {prepare:.0f} ms, model {total - prepare:.0f} ms in {calls} calls"


def wrapped(text: str, width: int) -> str:
    """Lines of at most `width` characters, since Toga's labels do not wrap."""
    return "\n".join(textwrap.wrap(text, width)) or text
