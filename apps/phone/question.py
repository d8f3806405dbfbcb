"""The field for a statement, in an app whose bundle judges them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import toga

from mue_edge.apps.phone.devices import Device

LABEL = "Does the picture show this?"
HINT = "A statement, such as: a red flower"


class Question:
    """`content` goes into the screen. ask: called when the user is done with the keyboard, or presses the
    button; not while they write."""

    def __init__(self, device: Device, ask: Callable[..., Any]) -> None:
        self.field = toga.TextInput(placeholder=HINT, on_confirm=ask, flex=1, margin_right=8)
        self.button = toga.Button("Ask", on_press=ask)
        line = toga.Box(children=[self.field, self.button], align_items="center", margin=(4, 0, 8))
        self.content = toga.Box(children=[toga.Label(LABEL), line], direction="column", margin=(0, 16))
        device.describe(self.field, LABEL)

    @property
    def statement(self) -> str:
        """What is written, without spaces around it."""
        return str(self.field.value).strip()
