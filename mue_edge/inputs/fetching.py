"""A picture from an http or https address that a user typed; nothing else may call this.

What is fetched is bounded in bytes and in time, and redirects lead to http and https only.
"""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote

import mue_edge
from mue_edge.errors import InputFileError
from mue_edge.inputs.gathering import is_address

MAX_FETCHED = 32 << 20
SECONDS = 30.0
_BLOCK = 64 << 10
# What an address may hold as it is; the rest, such as letters beyond ASCII, is written in percent signs.
_SAFE = "!#$%&'()*+,/:;=?@[]~"


def fetch(address: str, *, max_bytes: int = MAX_FETCHED, seconds: float = SECONDS) -> bytes:
    """What is there. Raises InputFileError, which says why not, at the latest after `seconds`."""
    results: list[bytes] = []
    problems: list[Exception] = []

    def work() -> None:
        try:
            results.append(_get(address, max_bytes, seconds))
        except Exception as problem:  # a server can make urllib raise anything
            problems.append(problem)

    # In a thread that is left behind: a name server, or headers that come byte by byte, know no limit.
    thread = threading.Thread(target=work, name="fetch", daemon=True)
    thread.start()
    thread.join(seconds)
    if results:
        return results[0]
    if not problems:
        raise InputFileError(f"{address} was not there within {seconds:g} s; load it down and name the file")
    if isinstance(problems[0], InputFileError):
        raise problems[0]
    # What a server says is not passed on to a terminal as it is.
    reason = "".join(c if c.isprintable() else " " for c in _reason(problems[0]))
    raise InputFileError(f"{address} cannot be fetched: {reason}") from problems[0]


def _get(address: str, max_bytes: int, seconds: float) -> bytes:
    agent = {"User-Agent": f"mue-edge/{mue_edge.__version__}", "Accept": "image/*"}
    request = urllib.request.Request(quote(address, safe=_SAFE), headers=agent)
    with _opener().open(request, timeout=seconds) as answer:
        data = bytearray()
        while block := answer.read(_BLOCK):
            data += block
            if len(data) > max_bytes:
                raise InputFileError(f"{address} has more than {max_bytes:,} bytes")
    return bytes(data)


def _opener() -> urllib.request.OpenerDirector:
    """Without the handlers of file:, ftp: and data: addresses that urllib's own has."""
    opener = urllib.request.OpenerDirector()
    handlers: tuple[Callable[[], urllib.request.BaseHandler], ...] = (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        _Redirects,
    )
    for handler in handlers:
        opener.add_handler(handler())
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: urllib.request.Request, *args: Any, **kwargs: Any) -> Any:
        following = super().redirect_request(req, *args, **kwargs)
        if following is not None and not is_address(following.full_url):
            raise InputFileError(f"{req.full_url} leads to {following.full_url}, which is no http or https address")
        return following


def _reason(problem: Exception) -> str:
    if isinstance(problem, HTTPError):
        return f"the server answers {problem.code} {problem.reason}"
    if isinstance(problem, URLError):
        return str(getattr(problem.reason, "strerror", None) or problem.reason)
    return str(problem) or type(problem).__name__
