"""The application: one window, a bundle, the device's own runtime underneath (`mue_edge.targets`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mue_edge.apps.phone.devices import PhoneDevice, Picture
from mue_edge.errors import EnvironmentLacksError, missing_extra

try:
    import toga
except ImportError as problem:
    raise missing_extra((problem.name or "toga").partition(".")[0], "phone") from problem

from mue_edge.apps.phone import devices, wording
from mue_edge.apps.phone.reader import BackgroundReader
from mue_edge.apps.phone.screen import Screen

if TYPE_CHECKING:
    from mue_edge.sessions.captioner import Captioner
    from mue_edge.sessions.entailer import Entailer

NAME, APP_ID = wording.CAPTIONS.name, "org.example.captions"
SIZE = (400, 780)
# What Qt links and does not bring along.
DEBIAN = (
    "libdbus-1-3 libegl1 libfontconfig1 libgl1 libglib2.0-0 libx11-xcb1 libxcb-cursor0 libxcb-icccm4 "
    "libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-shm0 libxcb-sync1 "
    "libxcb-xfixes0 libxcb-xkb1 libxkbcommon-x11-0 libxkbcommon0"
)


def make(
    open_session: Callable[[], Captioner | Entailer] | Path,
    *,
    policy: str | None = None,
    picture: Picture | None = None,
    device: Callable[[toga.App], PhoneDevice] = devices.here,
    then: Callable[[toga.App, Screen], Awaitable[None]] | None = None,
) -> toga.App:
    """The app of a bundle, or of what opens one; `main_loop()` runs it. then: what a script does with it once
    it is ready."""

    def open_bundle() -> Captioner | Entailer:
        from mue_edge import targets

        return targets.open_session(open_session) if isinstance(open_session, Path) else open_session()

    screen: Screen | None = None
    reader: BackgroundReader | None = None

    def build(app: toga.App) -> Any:
        nonlocal screen, reader
        if sys.platform == "ios" or hasattr(sys, "getandroidapilevel"):
            # A phone's app may write into its own folders only.
            os.environ.setdefault("XDG_CACHE_HOME", str(app.paths.cache))
        here = device(app)
        reader = BackgroundReader(open_bundle, here.scope)
        screen = Screen(reader, here)
        app.main_window = toga.MainWindow(title=NAME, size=SIZE)
        return screen.content

    async def running(app: toga.App, **kwargs: Any) -> None:
        assert screen is not None
        await screen.start(policy, picture)
        if screen.question is not None and app.main_window is not None:
            app.main_window.title = wording.STATEMENTS.name
        if then is not None:
            await then(app, screen)

    def leave(app: toga.App, **kwargs: Any) -> bool:
        if reader is not None:
            reader.close()
        return True

    try:
        return toga.App(NAME, APP_ID, startup=build, on_running=running, on_exit=leave)
    except ImportError as problem:
        raise EnvironmentLacksError(
            f"the window system's libraries do not load ({problem}); on Debian: apt-get install {DEBIAN}"
        ) from problem
