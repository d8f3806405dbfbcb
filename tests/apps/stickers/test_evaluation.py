"""What counts as the same caption."""

from __future__ import annotations

import pytest

from mue_edge.apps.stickers.evaluation import without_tone


@pytest.mark.parametrize(
    ("caption", "bare"),
    [
        ("waving hand: light skin tone", "waving hand"),
        ("woman: medium-light skin tone, beard", "woman: beard"),
        ("kiss: man, man, dark skin tone, medium skin tone", "kiss: man, man"),
        ("people holding hands: light skin tone, dark skin tone", "people holding hands"),
        ("light bulb", "light bulb"),
    ],
)
def test_skin_tones_are_taken_out(caption: str, bare: str) -> None:
    assert without_tone(caption) == bare
