"""Drives the app in a process of its own and prints what a user saw: `… -m tests.apps.phone.drive PICTURE…`.

On a window system each picture is chosen in the dialog itself; under `toga_dummy` a stand-in chooses.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import toga
from toga.platform import get_backend

from mue_edge.apps.phone import app as phone
from mue_edge.apps.phone.desktop import Desktop
from mue_edge.apps.phone.screen import Screen
from mue_edge.sessions.captioner import Captioner
from tests.apps.camera.made import FAST, FULL, Slow, captioner

DUMMY = get_backend() == "toga_dummy"


def front() -> Captioner:
    """Two policies, and a runtime that takes a moment."""
    bundle = captioner().bundle
    both = tuple(p.to_json() | {"name": p.name} for p in (FAST, FULL))
    return Captioner(replace(bundle, manifest=replace(bundle.manifest, front=both)), Slow(0.001))


async def until(what: Callable[[], Any]) -> Any:
    """Wait for something, which need not be quick on a busy machine."""
    for _ in range(1000):
        if found := what():
            return found
        await asyncio.sleep(0.02)
    raise TimeoutError(what)


class Chosen(Desktop):
    """Chooses in the window system's dialog, or the next of these where there is none."""

    def __init__(self, app: toga.App, pictures: list[Path]) -> None:
        super().__init__(app)
        self.pictures, self.announced = pictures, list[str]()

    async def choose(self) -> Path | None:
        picture = self.pictures.pop(0)
        if DUMMY:
            return picture
        asyncio.get_running_loop().create_task(self._answer(picture))
        return await super().choose()

    async def _answer(self, picture: Path) -> None:
        from PySide6.QtWidgets import QApplication, QFileDialog, QLineEdit

        dialog = await until(QApplication.activeModalWidget)
        assert isinstance(dialog, QFileDialog)
        dialog.findChild(QLineEdit).setText(str(picture))
        dialog.accept()

    def announce(self, native: Any, text: str) -> None:
        self.announced.append(text)
        super().announce(native, text)


def seen(screen: Screen) -> dict[str, Any]:
    """The screen as a user sees or hears it."""
    native = None if DUMMY else screen.image._impl.native
    rows = [(r.children[0].text, r.children[1].value, r.children[2].text) for r in screen.rows.children]
    return {
        "caption": screen.caption.text,
        "state": screen.state.text,
        "problem": screen.problem.text,
        "rows": rows,
        "aloud": [screen.aloud.text, screen.aloud.enabled],
        "choose": screen.choose.enabled,
        "asks": screen.question is not None,
        "policy": screen.named.text if screen.dial.children else None,
        "picture": screen.image.image and list(screen.image.image.size),
        "picture_name": native and native.accessibleName(),
        "bar_name": native and [r.children[1]._impl.native.accessibleName() for r in screen.rows.children],
    }


def press(widget: Any) -> None:
    """As a finger does."""
    widget._impl.native.click() if not DUMMY else widget.on_press()


async def read_aloud(screen: Screen) -> None:
    """Press the button, and wait for the speaker: what comes next hushes it."""
    press(screen.aloud)
    if screen.aloud.enabled:
        spoken = Path(os.environ["SPOKEN"])
        await until(lambda: spoken.is_file() and spoken.stat().st_size)


Scenario = Callable[[Screen, Chosen], Awaitable[dict[str, Any]]]


async def scenario(screen: Screen, device: Chosen) -> dict[str, Any]:
    found: dict[str, Any] = {"ready": seen(screen), "pictures": [], "knows": screen.knows.text}
    for _ in list(device.pictures):
        told = len(device.announced)
        press(screen.choose)
        await until(lambda told=told: len(device.announced) > told and screen.choose.enabled)
        found["pictures"].append(seen(screen))
    await read_aloud(screen)
    screen.slider.value = 0
    told = len(device.announced)
    screen.slider._impl.interface.on_release()
    await until(lambda: len(device.announced) > told and screen.choose.enabled)
    found |= {"fastest": seen(screen), "title": screen.content.window.title}
    if not DUMMY:
        found["window"] = list(screen.content.window.as_image().size)
    return found | {"announced": device.announced}


def main(pictures: list[Path], what: Any = front, scenario: Scenario = scenario) -> None:
    made: list[Chosen] = []
    over = asyncio.Event()

    def device(app: toga.App) -> Chosen:
        made.append(Chosen(app, pictures))
        return made[0]

    async def then(app: toga.App, screen: Screen) -> None:
        try:
            print(json.dumps(await asyncio.wait_for(scenario(screen, made[0]), 120)), flush=True)
        finally:
            app.request_exit()
            over.set()

    app = phone.make(what, device=device, then=then)
    app.main_loop()
    if DUMMY:  # its loop is ours to run
        app._impl.loop.run_until_complete(asyncio.wait_for(over.wait(), 150))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
