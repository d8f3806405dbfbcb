"""Drives the app from picture to picture: `… -m tests.apps.phone.drive_turned BUNDLE PICTURE…`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mue_edge.apps.phone.screen import Screen
from tests.apps.phone.drive import Chosen, main, press, seen, until


async def scenario(screen: Screen, device: Chosen) -> dict[str, Any]:
    found = []
    for _ in list(device.pictures):
        told = len(device.announced)
        press(screen.choose)
        await until(lambda told=told: len(device.announced) > told and screen.choose.enabled)
        found.append(seen(screen))
    captions = [shown["caption"].replace("\n", " ") for shown in found]
    return {"captions": captions, "sizes": [shown["picture"] for shown in found]}


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[2:]], Path(sys.argv[1]), scenario)
