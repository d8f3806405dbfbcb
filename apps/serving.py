"""What the applications' pages and endpoints share: a socket that is bound to loopback unless asked, a server
that patience cannot exhaust, and guards against other pages of the same browser.

A connection serves one request, whose head must arrive within HEAD_SECONDS; a client has at most half of them.
Requests whose Host is not this machine (DNS rebinding) and those that another page sends are refused. Errors are JSON.
"""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from mue_edge.errors import InputFileError, MueEdgeError, UsageError, missing_extra

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as problem:
    raise missing_extra((problem.name or "starlette").partition(".")[0], "apps") from problem

HEAD_SECONDS = 10.0
STOP_SECONDS = 3
MAX_CONNECTIONS = 256
LOOPBACK = "127.0.0.1"
OWN_NAMES = frozenset({"localhost", LOOPBACK, "::1"})

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"connection", b"close"),
]
_STATUS = {InputFileError: 415, UsageError: 400}
# Pages hold their scripts and styles; they talk to the server that they come from, and to nothing else.
PAGE_POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; connect-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def listen(host: str, port: int) -> socket.socket:
    """A socket bound there; port 0 is any free one. Raises UsageError if that cannot be."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as problem:
        raise UsageError(
            f"cannot listen on port {port} of {host}: {problem}; --port 0 takes any free port"
        ) from problem
    return listener


def url(listener: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = LOOPBACK
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def application(routes: Sequence[BaseRoute], listener: socket.socket, **options: Any) -> Starlette:
    """The routes behind the guards, with errors as JSON: {"error": …}."""
    handlers: dict[Any, Any] = dict.fromkeys((HTTPException, MueEdgeError, Exception), _failed)
    guard = Middleware(Guard, hosts=OWN_NAMES if is_loopback(listener) else None)
    return Starlette(routes=routes, middleware=[guard], exception_handlers=handlers, **options)


def error(status: int, text: str) -> JSONResponse:
    """An answer that says what was wrong."""
    return JSONResponse({"error": text}, status)


class Guard:
    """Refuses foreign hosts and foreign pages, and gives every answer its headers.

    hosts: names by which this server may be called; None: any (it was bound to more than loopback).
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Request(scope).headers
        host, origin = headers.get("host", ""), headers.get("origin")

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        app = self.app
        if self.hosts is not None and _name(f"//{host}") not in self.hosts:
            app = error(403, f"this server does not answer for the host {host!r}")
        elif origin is not None and urlsplit(origin).netloc != host:
            app = error(403, f"this server does not answer pages of {origin}")
        await app(scope, receive, answer)


class Impatient(H11Protocol):
    """Hangs up on a connection whose first request's head does not come (and there is no second request), and on a
    client that has too many of them."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_SECONDS, self._hang_up)
        clients = [c.client[0] for c in self.connections if isinstance(c, H11Protocol) and c.client]
        if self.client and clients.count(self.client[0]) > MAX_CONNECTIONS // 2:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._late.cancel()
        super().connection_lost(exc)

    def _hang_up(self) -> None:
        if self.cycle is None:  # of uvicorn: set as soon as a request's head is complete
            self.transport.abort()


class _Server(uvicorn.Server):
    """Calls `ready` once it listens, so that its address can be printed, and `stopping` once it stops to."""

    def __init__(self, app: ASGIApp, ready: Callable[[], object], stopping: Callable[[], object]) -> None:
        protocol: dict[str, Any] = {"http": Impatient, "ws": "none", "lifespan": "on", "loop": "asyncio"}
        limits: dict[str, Any] = {"limit_concurrency": MAX_CONNECTIONS}
        limits |= {"timeout_graceful_shutdown": STOP_SECONDS}
        quiet: dict[str, Any] = {"log_level": "error", "access_log": False, "server_header": False}
        super().__init__(uvicorn.Config(app, **protocol, **limits, **quiet))
        self._ready, self._stopping = ready, stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()
        await super().shutdown(sockets)


def _nothing() -> None: ...


def serve(
    app: ASGIApp,
    listener: socket.socket,
    ready: Callable[[], object] = _nothing,
    stopping: Callable[[], object] = _nothing,
) -> None:
    """Serve until SIGINT or SIGTERM; requests under way get STOP_SECONDS to end, and `stopping` may end some."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises what it caught again
        _Server(app, ready, stopping).run([listener])


@contextlib.contextmanager
def running(app: ASGIApp, listener: socket.socket, stopping: Callable[[], object] = _nothing) -> Iterator[str]:
    """Serve beside the block, in a thread, at this address."""
    started = threading.Event()
    server = _Server(app, started.set, stopping)
    thread = threading.Thread(target=server.run, args=([listener],), name="web", daemon=True)
    thread.start()
    if not started.wait(30):
        raise UsageError(f"the server at {url(listener)} did not start")
    try:
        yield url(listener)
    finally:
        server.should_exit = True
        thread.join(2 * STOP_SECONDS)


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _failed(request: Request, problem: Exception) -> Response:
    if isinstance(problem, HTTPException):
        return JSONResponse({"error": problem.detail}, problem.status_code, problem.headers)
    if isinstance(problem, MueEdgeError):
        return error(next((s for kind, s in _STATUS.items() if isinstance(problem, kind)), 500), str(problem))
    return error(500, "an error inside the server; its own output says more")
