"""Drives the app on statements: `… -m tests.apps.phone.drive_statements BUNDLE PICTURE…`.

On a window system the statements are typed key by key; under `toga_dummy` they are set.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mue_edge.apps.phone.screen import Screen
from tests.apps.phone.drive import DUMMY, Chosen, main, press, read_aloud, seen, until


def write(screen: Screen, text: str) -> None:
    """A statement in the field, instead of what stands there."""
    assert screen.question is not None
    field: Any = screen.question.field
    field.value = ""
    if DUMMY:
        field.value = text
        return
    from PySide6.QtTest import QTest

    QTest.keyClicks(field._impl.native, text)


def enter(screen: Screen) -> None:
    """The key that ends a line."""
    assert screen.question is not None
    field: Any = screen.question.field
    if DUMMY:
        field._impl.simulate_confirm()
        return
    from PySide6.QtCore import Qt
    from PySide6.QtTest import QTest

    QTest.keyClick(field._impl.native, Qt.Key.Key_Return)


async def scenario(screen: Screen, device: Chosen) -> dict[str, Any]:
    question = screen.question
    assert question is not None
    found: dict[str, Any] = {"ready": seen(screen), "title": screen.content.window.title}

    async def after(name: str, *actions: Any) -> None:
        told = len(device.announced)
        for action in actions:
            action()
        await until(lambda: len(device.announced) > told and screen.choose.enabled)
        found[name] = seen(screen)

    await after("no picture", lambda: enter(screen))
    await after("picture", lambda: press(screen.choose))
    await after("empty", lambda: press(question.button))
    write(screen, "a b")
    await after("asked", lambda: enter(screen), lambda: enter(screen))  # a hasty user
    await after("other picture", lambda: press(screen.choose))
    await read_aloud(screen)
    write(screen, "a xyz")
    await after("unknown", lambda: press(question.button))
    write(screen, "a " * 8)
    await after("long", lambda: enter(screen))
    write(screen, "a b")
    screen.slider.value = 0
    await after("fastest", screen.slider._impl.interface.on_release)
    if not DUMMY:
        field: Any = question.field
        found["field_name"] = field._impl.native.accessibleName()
    return found | {"announced": device.announced}


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[2:]], Path(sys.argv[1]), scenario)
