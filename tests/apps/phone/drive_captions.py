"""Drives the app on a statement beside a caption: `… -m tests.apps.phone.drive_captions BUNDLE PICTURE…`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mue_edge.apps.phone.screen import Screen
from tests.apps.phone.drive import Chosen, main, press, seen, until


async def scenario(screen: Screen, device: Chosen) -> dict[str, Any]:
    question = screen.question
    assert question is not None
    found: dict[str, Any] = {"fields": len(question.content.children) // 2, "knows": screen.knows.text}

    async def after(name: str, action: Any) -> None:
        told = len(device.announced)
        action()
        await until(lambda: len(device.announced) > told and screen.choose.enabled)
        found[name] = seen(screen)

    question.field.value = "a b"
    await after("alone", lambda: press(screen.choose))
    question.captioned.value = " d e "
    await after("captioned", lambda: press(question.button))
    await after("other picture", lambda: press(screen.choose))
    question.captioned.value = "!"
    await after("nothing", lambda: press(question.button))
    return found


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[2:]], Path(sys.argv[1]), scenario)
