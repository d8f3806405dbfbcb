"""The HTTP endpoint: POST a picture to /caption, get its alt text as JSON. It writes nothing anywhere.

| method, path | |
|---|---|
| POST /caption?policy=NAME | the body is the picture: JPEG, PNG, WebP, GIF or BMP, judged by its bytes |
| POST /caption, as multipart/form-data | the first file is the picture, its field may have any name |
| GET /health | whether it lives, what it runs, how many wait |
| GET / | what there is |

The policy may also stand in a form's field `policy`.

One picture is decoded and captioned at a time; up to `waiting` more wait, and whose body arrives then gets
503 with Retry-After. Bodies on their way keep nobody waiting; all bodies together hold no more memory than
the largest ones of a full queue would, beside one decoded picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mue_edge.apps.alt_text import forms
from mue_edge.apps.alt_text.table import clean
from mue_edge.apps.serving import application
from mue_edge.errors import InputFileError, UsageError
from mue_edge.inputs import image
from mue_edge.sessions.captioner import Captioner

WANTED = (
    "send the picture's bytes as the body (curl --data-binary @picture.png) or a form with a file "
    "(curl -F picture=@picture.png): JPEG, PNG, WebP, GIF or BMP"
)


@dataclass(frozen=True)
class Limits:
    """waiting: requests beside the one that is captioned. body: bytes. pixels: of a picture. body_seconds:
    for the whole body to arrive. deadline: seconds a caption, or None."""

    waiting: int = 16
    body: int = 16 << 20
    pixels: int = image.MAX_PIXELS
    body_seconds: float = 20.0
    deadline: float | None = None


class Endpoint:
    """A captioner behind a queue. `open_captioner` and all captions run in one thread of its own."""

    def __init__(self, open_captioner: Callable[[], Captioner], policy: str | None, limits: Limits) -> None:
        self._open, self._policy, self.limits = open_captioner, policy, limits
        self._worker = ThreadPoolExecutor(1, "captioner")
        self._captioner: Captioner | None = None
        self._present = 0  # whose body has arrived
        self._held, self._room = 0, (limits.waiting + 1) * limits.body  # bytes of bodies
        self._mean = 0.1

    def app(self, listener: socket.socket) -> Starlette:
        """The application; a bundle that cannot be opened or a policy that it lacks is raised by `start`."""

        @contextlib.asynccontextmanager
        async def life(app: Starlette) -> AsyncIterator[None]:
            yield
            self._worker.submit(self._opened().close)
            self._worker.shutdown()

        routes = [Route("/", self.index), Route("/health", self.health)]
        routes.append(Route("/caption", self.caption, methods=["POST"]))
        return application(routes, listener, lifespan=life)

    def start(self) -> None:
        """Open the bundle and load its segments, so that mistakes show at once and no caption pays for it."""

        def opened() -> Captioner:
            captioner = self._open()
            captioner.policy(self._policy)
            captioner.warm_up()
            return captioner

        self._captioner = self._worker.submit(opened).result()

    async def index(self, request: Request) -> Response:
        """What can be asked here."""
        url = request.url_for("caption")
        body, form = "--data-binary @picture.png", "-F picture=@picture.png -F policy=NAME"
        usage = {"POST /caption": f"curl {body} {url}", "or as a form": f"curl {form} {url}"}
        return JSONResponse(usage | {"GET /health": "state", "limits": vars(self.limits)})

    async def health(self, request: Request) -> Response:
        """The bundle, its policies, and who is there."""
        manifest = self._opened().bundle.manifest
        about = {"status": "ok", "bundle": manifest.name, "policies": list(manifest.policies())}
        return JSONResponse(about | {"policy": self._policy or manifest.chosen, "present": self._present})

    async def caption(self, request: Request) -> Response:
        """One picture's alt text."""
        body = bytearray()
        try:
            await self._receive(request, body)
            if self._present > self.limits.waiting:
                again = math.ceil(self._present * self._mean)
                raise _busy(f"{self._present} requests are waiting", again)
            self._present += 1
            try:
                return JSONResponse(await self._answer(request, bytes(body)))
            finally:
                self._present -= 1
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        finally:
            self._held -= len(body)

    async def _answer(self, request: Request, body: bytes) -> dict[str, Any]:
        """The caption of a body that has arrived. Raises HTTPException for what is no picture."""
        policy, kind = request.query_params.get("policy"), request.headers.get("content-type", "")
        if forms.is_form(kind):
            body, fields = forms.read(kind, body)
            policy = policy or fields.get("policy")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, self._one, body, policy)
        except InputFileError as problem:
            raise HTTPException(415, f"{problem}; {WANTED}") from problem

    async def _receive(self, request: Request, body: bytearray) -> None:
        """The request's body, to its end: who is cut off while sending sees no answer. Raises
        HTTPException."""
        limit, size = self.limits.body, 0
        too_large = HTTPException(413, f"the body has more than {limit:,} bytes")
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            raise too_large

        async def receive() -> None:
            nonlocal size
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limit and self._held + len(chunk) <= self._room:
                    body.extend(chunk)
                    self._held += len(chunk)

        try:
            await asyncio.wait_for(receive(), self.limits.body_seconds)
        except asyncio.TimeoutError as problem:
            text = f"the body did not arrive within {self.limits.body_seconds:g} s"
            raise HTTPException(408, text) from problem
        if size > limit:
            raise too_large
        if len(body) < size:
            raise _busy("too many bodies are on their way")
        if not size:
            raise HTTPException(400, f"the body is empty; {WANTED}")

    def _one(self, data: bytes, policy: str | None) -> dict[str, Any]:
        """In the worker's thread: decode, caption. Raises what `image.load` and `policy` raise."""
        started, captioner = time.perf_counter(), self._opened()
        names = captioner.bundle.manifest.policies()
        if policy is not None and policy not in names:  # a path is no name: no file is read for a client
            raise UsageError(f"no policy {policy!r} in the bundle's front ({', '.join(names)})")
        chosen = captioner.policy(policy or self._policy)
        preprocess = captioner.bundle.manifest.preprocess
        picture = image.load_for_network(preprocess, data, max_pixels=self.limits.pixels)
        result = captioner.caption(picture, policy=chosen, deadline=self.limits.deadline)
        taken = time.perf_counter() - started
        self._mean += 0.2 * (taken - self._mean)
        caption = {"alt": clean(result.text), "score": result.score, "policy": chosen.name or chosen.rule}
        layers = {"exits": dict(result.exits), "decoder_layers": result.decoder_layers}
        cut_short = bool(result.deadline and result.deadline.cut_short)
        return caption | layers | {"seconds": taken, "cut_short": cut_short}

    def _opened(self) -> Captioner:
        assert self._captioner is not None, "start() comes first"
        return self._captioner


def _busy(reason: str, seconds: int = 1) -> HTTPException:
    return HTTPException(503, f"{reason}; try again later", {"retry-after": str(max(1, seconds))})
