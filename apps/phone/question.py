"""The fields of an app whose bundle judges statements: for one, and for a caption where it reads captions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import toga

from mue_edge.apps.phone.devices import PhoneDevice

LABEL = "Does the picture show this?"
HINT = "A statement, such as: a red flower"
CAPTION = "Caption of the picture (optional)"


class Question:
    """`content` goes into the screen. ask: called when the user is done with the keyboard, or presses the
    button; not while they write. captions: whether there is a field for a caption of the picture."""

    def __init__(self, device: PhoneDevice, ask: Callable[..., Any], *, captions: bool = False) -> None:
        self.field = toga.TextInput(placeholder=HINT, on_confirm=ask, flex=1, margin_right=8)
        self.button = toga.Button("Ask", on_press=ask)
        line = toga.Box(children=[self.field, self.button], align_items="center", margin=(4, 0, 8))
        self.content = toga.Box(children=[toga.Label(LABEL), line], direction="column", margin=(0, 16))
        device.describe(self.field, LABEL)
        self.captioned = toga.TextInput(on_confirm=ask, margin=(4, 0, 8))
        if captions:
            self.content.add(toga.Label(CAPTION), self.captioned)
            device.describe(self.captioned, CAPTION)

    @property
    def statement(self) -> str:
        """What is written, without spaces around it."""
        return str(self.field.value).strip()

    @property
    def caption(self) -> str | None:
        """The caption, None where none is written."""
        return str(self.captioned.value).strip() or None

    def another_picture(self) -> None:
        """A caption is of one picture."""
        self.captioned.value = ""
