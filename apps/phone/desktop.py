"""Linux, macOS and Windows: Toga's dialogs, and the text-to-speech program that is installed."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import toga

from mue_edge.errors import EnvironmentLacksError
from mue_edge.inputs.image import SUFFIXES

SAPI = (
    "Add-Type -AssemblyName System.Speech; "
    "(New-Object System.Speech.Synthesis.SpeechSynthesizer).Speak([Console]::In.ReadToEnd())"
)
# Programs that read their standard input aloud, so that no text can be taken for an option or a command.
PROGRAMS = {
    "say": ("-f", "-"),  # macOS
    "espeak-ng": ("--stdin",),
    "espeak": ("--stdin",),
    "spd-say": ("--wait", "--pipe-mode"),  # Speech Dispatcher
    "powershell": ("-NoProfile", "-NonInteractive", "-Command", SAPI),  # Windows
}


class Desktop:
    """See `devices.Device`."""

    def __init__(self, app: toga.App) -> None:
        self._app = app
        self.voice = next((name for name in PROGRAMS if shutil.which(name)), None)
        self._speaking: subprocess.Popen[bytes] | None = None
        self._camera: Any = None
        with contextlib.suppress(Exception):  # what a backend without a camera raises differs
            self._camera = app.camera
        self.can_take = self._camera is not None

    async def choose(self) -> Path | None:
        types = sorted(suffix[1:] for suffix in SUFFIXES)
        window: Any = self._app.main_window
        path: Path | None = await window.dialog(toga.OpenFileDialog("Choose a picture", file_types=types))
        return path

    async def take(self) -> bytes | None:
        if not await self._camera.request_permission():
            return None
        photo = await self._camera.take_photo()
        return None if photo is None else bytes(photo.data)

    def say(self, text: str) -> None:
        self.hush()
        if self.voice is None:
            raise EnvironmentLacksError(
                f"no program that reads aloud is here; one of these is enough: {', '.join(PROGRAMS)}"
            )
        command = [shutil.which(self.voice) or self.voice, *PROGRAMS[self.voice]]
        silent = subprocess.DEVNULL
        self._speaking = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=silent, stderr=silent)
        assert self._speaking.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended at once: nobody hears it, nothing is lost
            self._speaking.stdin.write(text.encode() + b"\n")
            self._speaking.stdin.close()

    def hush(self) -> None:
        if self._speaking is not None:
            self._speaking.kill()
            self._speaking.wait()
            self._speaking = None

    def describe(self, widget: toga.Widget, text: str) -> None:
        native = _native(widget)
        if hasattr(native, "setAccessibleName"):  # Qt
            native.setAccessibleName(text)
        elif hasattr(native, "AccessibleName"):  # Windows
            native.AccessibleName = text
        elif hasattr(native, "setAccessibilityLabel"):  # macOS
            native.setAccessibilityLabel(text)

    def announce(self, widget: toga.Widget, text: str) -> None:
        native = _native(widget)
        if not hasattr(native, "setAccessibleName"):
            return  # only Qt has a word for it that is the same everywhere
        from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent

        QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(native, text))

    def scope(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext()


def _native(widget: toga.Widget) -> Any:
    return getattr(widget._impl, "native", None)  # Toga's stand-in of a window system has none
