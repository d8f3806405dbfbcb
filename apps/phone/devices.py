"""What the app asks of the device that it runs on: pictures, a voice, a word to screen readers."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import toga


# A picture's file, or its bytes.
Picture = Path | bytes


class PhoneDevice(Protocol):
    """One of `desktop.py`, `ios.py`, `android.py`."""

    voice: str | None  # what reads aloud; None: nothing does
    can_take: bool  # pictures, with a camera

    async def choose(self) -> Picture | None:
        """A picture, chosen by the user; None if none was."""

    async def take(self) -> Picture | None:
        """A picture from the camera; None if none was taken or the user does not allow it."""

    def say(self, text: str) -> None:
        """Begin to read aloud, instead of what is being read. Raises EnvironmentLacksError."""

    def hush(self) -> None:
        """Stop reading aloud."""

    def describe(self, widget: toga.Widget, text: str) -> None:
        """What a screen reader says of a widget that has no text, or of a field beside what is written."""

    def announce(self, widget: toga.Widget, text: str) -> None:
        """What a screen reader says now, once, of a change in this widget."""

    def scope(self) -> AbstractContextManager[Any]:
        """Around work in another thread."""


def here(app: toga.App) -> PhoneDevice:
    """The device of this process."""
    if hasattr(sys, "getandroidapilevel"):
        from mue_edge.apps.phone.android import Android

        return Android(app)
    if sys.platform == "ios":
        from mue_edge.apps.phone.ios import IPhone

        return IPhone(app)
    from mue_edge.apps.phone.desktop import Desktop

    return Desktop(app)
