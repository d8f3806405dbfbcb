"""One captioner, or what judges statements, in one thread, so that the thread that draws never waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from mue_edge.apps.phone.devices import Picture
from mue_edge.apps.phone.reading import Reading, captioned, judged
from mue_edge.errors import UsageError
from mue_edge.inputs import statements
from mue_edge.sessions.captioner import Captioner
from mue_edge.sessions.entailer import Entailer

if TYPE_CHECKING:
    from PIL.Image import Image

    from mue_edge.inputs.image import LoadedPicture

T = TypeVar("T")
Watch = Callable[["Image"], None]


@dataclass(frozen=True)
class BundleSummary:
    """The bundle's policies from fastest to full depth, the number of the one that is used, whether the
    bundle judges statements rather than captions, whether it then reads captions of the pictures, and what
    little the model knows ("": nothing is said of that)."""

    names: tuple[str, ...]
    chosen: int
    judges: bool = False
    captions: bool = False
    knows: str = ""


class BackgroundReader:
    """open_session: called in the thread, once. scope: entered around all work there (Objective-C's
    autorelease pools).

    Every `watch` gets the picture as it is looked at (upright, RGB) before the model is, in the caller's
    loop.
    """

    def __init__(
        self, open_session: Callable[[], Captioner | Entailer], scope: Callable[[], Any] = contextlib.nullcontext
    ) -> None:
        self._open, self._scope = open_session, scope
        self._thread = ThreadPoolExecutor(1, "captions")
        self._session: Captioner | Entailer | None = None

    async def start(self, policy: str | None = None) -> BundleSummary:
        """Open the bundle and load its segments. Raises what opening raises."""

        def start() -> BundleSummary:
            session = self._session = self._open()
            manifest = session.bundle.manifest
            names = tuple(manifest.policies())
            name = policy or manifest.initial_policy
            if name not in names:
                raise UsageError(f"no policy {name!r} in the bundle's front ({', '.join(names)})")
            session.warm_up()
            judges, captions = isinstance(session, Entailer), bool(manifest.caption_prompt)
            return BundleSummary(names, names.index(name), judges, captions, manifest.knows)

        return await self._in_thread(start)

    async def caption(self, picture: Picture, policy: str, watch: Watch, grow: Callable[[str], None]) -> Reading:
        """Caption a picture. `grow` gets the text after each word, in the caller's loop. Raises
        InputFileError."""
        loop = asyncio.get_running_loop()

        def caption() -> Reading:
            captioner = self._session
            assert isinstance(captioner, Captioner), "start comes first, and says what the bundle does"
            steps = captioner.stream(self._upright(picture, watch, loop), policy=policy)
            while True:
                try:
                    text = next(steps)
                except StopIteration as end:
                    return captioned(end.value, captioner.layout, captioner.tokenizer)
                loop.call_soon_threadsafe(grow, text)

        return await self._in_thread(caption)

    async def judge(
        self, picture: Picture, statement: str, policy: str, watch: Watch, caption: str | None = None
    ) -> Reading:
        """Whether a picture, and its caption if one is given, show what a statement says. Raises
        InputFileError, and UsageError for a statement or caption that is empty or too long."""
        loop = asyncio.get_running_loop()

        def judge() -> Reading:
            entailer = self._session
            assert isinstance(entailer, Entailer), "start comes first, and says what the bundle does"
            upright = self._upright(picture, watch, loop)
            result = entailer.entail(upright, statement, caption=caption, policy=policy)
            return judged(result, statement, entailer.layout, statements.unknown_words_note(result.unknown))

        return await self._in_thread(judge)

    async def look(self, picture: Picture, watch: Watch) -> None:
        """Only decode a picture. Raises InputFileError."""
        loop = asyncio.get_running_loop()
        await self._in_thread(lambda: self._upright(picture, watch, loop))

    def close(self) -> None:
        """Wait for what runs, and free the runtime."""
        self._thread.shutdown(wait=True)
        if self._session is not None:
            self._session.close()

    def _upright(self, picture: Picture, watch: Watch, loop: asyncio.AbstractEventLoop) -> LoadedPicture:
        assert self._session is not None, "start comes first"
        upright = self._session.load(picture)
        loop.call_soon_threadsafe(watch, upright.rgb)
        return upright

    async def _in_thread(self, work: Callable[[], T]) -> T:
        def scoped() -> T:
            with self._scope():
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._thread, scoped)
