"""An Android phone through Chaquopy: the system's picker and camera, TextToSpeech, TalkBack.

Unverified on hardware: tested against a stand-in of exactly the calls made here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mue_edge.errors import EnvironmentLacksError
from mue_edge.inputs.image import MAX_BYTES

if TYPE_CHECKING:
    import toga

OK = -1  # Activity.RESULT_OK
SUCCESS = 0  # TextToSpeech.SUCCESS
FLUSH = 0  # TextToSpeech.QUEUE_FLUSH
SPEECH = "android.speech.tts.TextToSpeech"


@dataclass(frozen=True)
class AndroidBridge:
    """Java: a class by name, and an object that calls back when text to speech has started, with a status."""

    jclass: Callable[[str], Any]
    on_init: Callable[[Callable[[int], None]], Any]


def chaquopy() -> AndroidBridge:
    """The bridge of an Android app."""
    from java import dynamic_proxy, jclass

    class Listener(dynamic_proxy(jclass(f"{SPEECH}$OnInitListener"))):  # type: ignore[misc]
        def __init__(self, started: Callable[[int], None]) -> None:
            super().__init__()
            self._started = started

        def onInit(self, status: int) -> None:  # the interface's name
            self._started(status)

    return AndroidBridge(jclass, Listener)


class Android:
    """See `devices.Device`."""

    def __init__(self, app: toga.App, bridge: AndroidBridge | None = None) -> None:
        self._app, self._bridge = app, bridge or chaquopy()
        self.voice: str | None = "TextToSpeech"
        self.can_take = True
        self._waiting: str | None = None
        self._status: int | None = None
        self._speech = self._class(SPEECH)(self._context, self._bridge.on_init(self._started))

    async def choose(self) -> bytes | None:
        intent = self._class("android.content.Intent")("android.intent.action.GET_CONTENT")
        intent.setType("image/*")
        code, data = await self._result(intent)
        if code != OK or data is None:
            return None
        opened = self._context.getContentResolver().openFileDescriptor(data.getData(), "r")
        with os.fdopen(opened.detachFd(), "rb") as file:
            return file.read(MAX_BYTES + 1)  # more is refused with its reason

    async def take(self) -> bytes | None:
        """Toga's own picture would come without the note how it is turned, and would stay in the cache."""
        if not await self._app.camera.request_permission():
            return None
        # What the FileProvider of Briefcase's template serves, and its authority there.
        photo = Path(self._app.paths.cache) / "shared" / "photo.jpg"
        authority = f"{self._context.getPackageName()}.fileprovider"
        photo.parent.mkdir(parents=True, exist_ok=True)
        file = self._class("java.io.File")(str(photo))
        provider = self._class("androidx.core.content.FileProvider")
        uri = provider.getUriForFile(self._context, authority, file)
        intent = self._class("android.content.Intent")("android.media.action.IMAGE_CAPTURE")
        intent.putExtra("output", uri)
        try:
            code, _ = await self._result(intent)
            return photo.read_bytes() if code == OK else None
        finally:
            photo.unlink(missing_ok=True)

    def say(self, text: str) -> None:
        if self._status is None:
            self._waiting = text  # it takes a moment to start
            return
        if self._status != SUCCESS:
            raise EnvironmentLacksError(
                "this phone has no text to speech; Settings, Accessibility, Text-to-speech installs one"
            )
        self._speech.speak(text, FLUSH, None, "caption")

    def hush(self) -> None:
        self._waiting = None
        self._speech.stop()

    def describe(self, widget: toga.Widget, text: str) -> None:
        if hasattr(widget, "placeholder"):
            return  # a field's hint is said beside what is written, a description instead of it
        widget._impl.native.setContentDescription(text)

    def announce(self, widget: toga.Widget, text: str) -> None:
        widget._impl.native.announceForAccessibility(text)

    def scope(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext()

    @property
    def _context(self) -> Any:
        return self._app._impl.native.getApplicationContext()

    def _class(self, name: str) -> Any:
        return self._bridge.jclass(name)

    def _started(self, status: int) -> None:
        self._status, waiting, self._waiting = status, self._waiting, None
        if waiting is not None and status == SUCCESS:
            self.say(waiting)

    async def _result(self, intent: Any) -> tuple[int, Any]:
        """Result code and data of another app's screen."""
        future = asyncio.get_running_loop().create_future()

        def done(code: int, data: Any) -> None:
            future.set_result((code, data))

        self._app._impl.start_activity(intent, on_complete=done)
        result: tuple[int, Any] = await future
        return result
