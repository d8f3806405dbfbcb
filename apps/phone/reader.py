"""One captioner in one thread, so that the thread that draws never waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mue_edge.apps.phone.reading import Reading, reading
from mue_edge.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from mue_edge.captioner import Captioner


@dataclass(frozen=True)
class Front:
    """The bundle's policies from fastest to full depth, and the number of the one that is used."""

    names: tuple[str, ...]
    chosen: int


class Reader:
    """open_captioner: called in the thread, once. scope: entered around all work there (Objective-C's
    autorelease pools)."""

    def __init__(
        self, open_captioner: Callable[[], Captioner],
        scope: Callable[[], Any] = contextlib.nullcontext,
    ) -> None:  # fmt: skip
        self._open, self._scope = open_captioner, scope
        self._thread = ThreadPoolExecutor(1, "captions")
        self._captioner: Captioner | None = None

    async def start(self, policy: str | None = None) -> Front:
        """Open the bundle and load its segments. Raises what opening raises."""

        def start() -> Front:
            with self._scope():
                captioner = self._captioner = self._open()
                names = tuple(captioner.bundle.manifest.policies())
                name = policy or captioner.bundle.manifest.chosen
                if name not in names:
                    raise UsageError(f"no policy {name!r} in the bundle's front ({', '.join(names)})")
                captioner.warm_up()
            return Front(names, names.index(name))

        return await asyncio.get_running_loop().run_in_executor(self._thread, start)

    async def read(
        self, picture: Path | bytes, policy: str, watch: Callable[[Image], None], grow: Callable[[str], None]
    ) -> Reading:
        """Caption a picture. `watch` gets it as it is looked at (upright, RGB) before the caption begins,
        `grow` the text after each word; both in the caller's loop. Raises InputFileError."""
        loop = asyncio.get_running_loop()

        def read() -> Reading:
            from mue_edge import image

            captioner = self._captioner
            assert captioner is not None, "start comes first"
            with self._scope():
                upright = image.load(picture)
                loop.call_soon_threadsafe(watch, upright)
                steps = captioner.stream(upright, policy=policy)
                while True:
                    try:
                        text = next(steps)
                    except StopIteration as end:
                        return reading(end.value, captioner.layout, captioner.tokenizer)
                    loop.call_soon_threadsafe(grow, text.rstrip("\ufffd"))

        return await loop.run_in_executor(self._thread, read)

    def close(self) -> None:
        """Wait for what runs, and free the runtime."""
        self._thread.shutdown(wait=True)
        if self._captioner is not None:
            self._captioner.close()
