"""Layouts of a decomposed encoder and a decoder, for tests that have no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mue_edge.loop.protocol import CONSTANT, DECODER, PICTURE, TEXT, WORDS, Layout, Stack, Stage


def layout(
    image: Sequence[Stage],
    decoder: Sequence[Stage],
    rows: int = 1,
    fill_rows: int = 4,
    *,
    distances: Sequence[float] = (),
    text: Sequence[Stage] = (),
    slots: int = 17,
) -> Layout:
    """distances: of a constant text; text: the stages of one that comes with the picture."""
    stacks = [Stack("image", PICTURE, tuple(image), "stem")]
    if text:
        stacks.append(Stack("text", TEXT, tuple(text), "text_stem"))
    if distances:
        stacks.append(Stack("text", CONSTANT, distances=tuple(distances)))
    stacks.append(Stack(DECODER, WORDS, tuple(decoder), "embed"))
    return Layout(tuple(stacks), rows, slots, fill_rows)


def stages(kind: str, count: int) -> tuple[Stage, ...]:
    """One a layer."""
    return tuple(Stage(f"{kind}.{i}", i + 1) for i in range(count))


def changed(layout: Layout, name: str, stages: Sequence[Stage]) -> Layout:
    """With other stages of one stack."""
    stacks = (replace(s, stages=tuple(stages)) if s.name == name else s for s in layout.stacks)
    return replace(layout, stacks=tuple(stacks))
