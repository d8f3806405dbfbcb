"""The local page: what was seen last, as events and a picture, and the slider's policy."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from PIL.Image import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from mue_edge.apps.camera.watching import SeenFrame, Watcher, describe
from mue_edge.apps.serving import PAGE_POLICY, application
from mue_edge.errors import UsageError

# The page asks for a picture an event; more events than this a second help nobody.
EVENT_SECONDS = 0.05
WIDTH = 640


class Live:
    """Between the watching thread, which calls `show`, and the server's thread."""

    def __init__(self, watcher: Watcher, title: str) -> None:
        self._watcher, self._title = watcher, title
        self._policies = watcher.captioner.bundle.manifest.policies()
        self._last: SeenFrame | None = None
        self._over = False

    def show(self, frame: SeenFrame) -> None:
        """The newest."""
        self._last = frame

    def end(self) -> None:
        """Nothing more comes; pages are told."""
        self._over = True

    def app(self, listener: socket.socket) -> Starlette:
        """The application."""
        routes = [Route("/", self._page), Route("/events", self._events), Route("/frame", self._frame)]
        return application([*routes, Route("/policy", self._policy, methods=["POST"])], listener)

    async def _page(self, request: Request) -> Response:
        html = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
        return HTMLResponse(html, headers={"content-security-policy": PAGE_POLICY})

    async def _events(self, request: Request) -> Response:
        headers = {"x-accel-buffering": "no"}
        return StreamingResponse(self._lines(), media_type="text/event-stream", headers=headers)

    async def _lines(self) -> AsyncIterator[str]:
        names = list(self._policies)
        chosen = self._watcher.policy.name
        start = {"source": self._title, "policies": names, "policy": chosen, "budget": self._watcher.budget}
        yield _event("start", start)
        number = 0
        while not self._over:
            if self._watcher.policy.name != chosen:  # by any page: all show the same slider
                chosen = self._watcher.policy.name
                yield _event("policy", {"policy": chosen})
            frame = self._last
            if frame is not None and frame.number != number:
                number = frame.number
                yield _event("frame", describe(frame, self._watcher))
            await asyncio.sleep(EVENT_SECONDS)
        yield _event("end", {})

    async def _frame(self, request: Request) -> Response:
        frame = self._last
        if frame is None:
            raise HTTPException(404, "no frame was seen yet")
        data = await asyncio.get_running_loop().run_in_executor(None, _jpeg, frame.picture)
        return Response(data, media_type="image/jpeg", headers={"x-number": str(frame.number)})

    async def _policy(self, request: Request) -> Response:
        name = request.query_params.get("name", "")
        if name not in self._policies:
            raise UsageError(f"no policy {name!r} in the bundle's front ({', '.join(self._policies)})")
        self._watcher.policy = self._policies[name]
        return JSONResponse({"policy": name})


def _event(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


def _jpeg(picture: Image) -> bytes:
    shown = picture.copy()
    shown.thumbnail((WIDTH, WIDTH))
    data = io.BytesIO()
    shown.save(data, "JPEG", quality=80)
    return data.getvalue()
