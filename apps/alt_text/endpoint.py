"""The HTTP endpoint: POST a picture to /caption, get its alt text as JSON. It writes nothing anywhere.

| method, path | |
|---|---|
| POST /caption?policy=NAME | the body is the picture: JPEG, PNG, WebP, GIF or BMP, judged by its bytes |
| POST /caption, as multipart/form-data | the first file is the picture, its field may have any name |
| GET /health | whether it lives, what it runs, how many wait |
| GET / | what there is |

The policy may also stand in a form's field `policy`.

Pictures are decoded and captioned by worker processes, one at a time each; up to `waiting` more wait, and whose
body arrives then gets 503 with Retry-After. Bodies on their way keep nobody waiting; all bodies together hold no more
memory than the largest ones of a full queue would, those of one client half of it, beside a decoded picture a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mue_edge.apps.alt_text import forms
from mue_edge.apps.alt_text.answering import Limits
from mue_edge.apps.serving import STOP_SECONDS, application
from mue_edge.apps.workers import WorkerDiedError, Workers
from mue_edge.bundle.manifest import Manifest
from mue_edge.errors import InputFileError, UsageError

GRACE_SECONDS = STOP_SECONDS - 1  # then there is time to tell the others
WANTED = (
    "send the picture's bytes as the body (curl --data-binary @picture.png) or a form with a file "
    "(curl -F picture=@picture.png): JPEG, PNG, WebP, GIF or BMP"
)


class Endpoint:
    """A queue before workers, which caption as `Captioning` does. manifest: of their bundle; policy: theirs."""

    def __init__(self, manifest: Manifest, workers: Workers, policy: str | None, limits: Limits) -> None:
        self._manifest, self._workers, self._policy, self.limits = manifest, workers, policy, limits
        self._names = list(manifest.policies())
        self._present = 0  # whose body has arrived
        self._held: Counter[str] = Counter()  # bytes of bodies, by client
        self._room = (limits.waiting + workers.count) * limits.body
        self._mean = 0.1
        self._stopping = False

    def app(self, listener: socket.socket) -> Starlette:
        """The application. When it has ended, the workers have."""

        @contextlib.asynccontextmanager
        async def life(app: Starlette) -> AsyncIterator[None]:
            yield
            self._workers.close()

        routes = [Route("/", self.index), Route("/health", self.health)]
        routes.append(Route("/caption", self.caption, methods=["POST"]))
        return application(routes, listener, lifespan=life)

    def stop(self) -> None:
        """Refuse who waits and who comes; what is captioned has GRACE_SECONDS to end."""
        self._stopping = True
        self._workers.refuse()
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._workers.close)

    async def index(self, request: Request) -> Response:
        """What can be asked here."""
        url = request.url_for("caption")
        body, form = "--data-binary @picture.png", "-F picture=@picture.png -F policy=NAME"
        usage = {"POST /caption": f"curl {body} {url}", "or as a form": f"curl {form} {url}"}
        return JSONResponse(usage | {"GET /health": "state", "limits": vars(self.limits)})

    async def health(self, request: Request) -> Response:
        """The bundle, its policies, and who is there."""
        about = {"status": "ok", "bundle": self._manifest.name, "policies": self._names}
        about |= {"policy": self._policy or self._manifest.chosen}
        return JSONResponse(about | {"workers": self._workers.count, "present": self._present})

    async def caption(self, request: Request) -> Response:
        """One picture's alt text."""
        body, client = bytearray(), request.client.host if request.client else ""
        try:
            await self._receive(request, client, body)
            if self._present >= self.limits.waiting + self._workers.count:
                again = math.ceil(self._present * self._mean / self._workers.count)
                raise _busy(f"{self._present} requests are waiting", again)
            self._present += 1
            try:
                return JSONResponse(await self._answer(request, bytes(body)))
            finally:
                self._present -= 1
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except asyncio.CancelledError as problem:  # by `stop`
            raise _busy("the server is stopping") from problem
        finally:
            self._held -= Counter({client: len(body)})

    async def _answer(self, request: Request, body: bytes) -> dict[str, Any]:
        """The caption of a body that has arrived. Raises HTTPException for what is no picture."""
        policy, kind = request.query_params.get("policy"), request.headers.get("content-type", "")
        if forms.is_form(kind):
            body, fields = forms.read(kind, body)
            policy = policy or fields.get("policy")
        if policy is not None and policy not in self._names:  # a path is no name: no file is read for a client
            raise UsageError(f"no policy {policy!r} in the bundle's front ({', '.join(self._names)})")
        if self._stopping:
            raise _busy("the server is stopping")
        try:
            record: dict[str, Any] = await asyncio.wrap_future(self._workers.submit(body, policy))
        except InputFileError as problem:
            raise HTTPException(415, f"{problem}; {WANTED}") from problem
        except WorkerDiedError as problem:
            raise _busy(str(problem)) from problem
        self._mean += 0.2 * (record["seconds"] - self._mean)
        return record

    async def _receive(self, request: Request, client: str, body: bytearray) -> None:
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
                if size <= limit and self._has_room(client, len(chunk)):
                    body.extend(chunk)
                    self._held[client] += len(chunk)

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

    def _has_room(self, client: str, size: int) -> bool:
        share = max(self.limits.body, self._room // 2)
        return self._held.total() + size <= self._room and self._held[client] + size <= share


def _busy(reason: str, seconds: int = 1) -> HTTPException:
    return HTTPException(503, f"{reason}; try again later", {"retry-after": str(max(1, seconds))})
