"""The server that the applications share: who may ask, and for how long."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mue_edge.apps import serving
from mue_edge.errors import UsageError
from tests.apps.served import OTHER, ask, connect, everything


async def fine(request: Request) -> Response:
    return JSONResponse({"thread": threading.current_thread().name})


async def broken(request: Request) -> Response:
    raise RuntimeError("a secret")


ROUTES = [Route("/", fine, methods=["GET", "POST"]), Route("/broken", broken)]


@pytest.fixture
def url() -> Iterator[str]:
    listener = serving.listen("127.0.0.1", 0)
    with listener, serving.running(serving.application(ROUTES, listener), listener) as url:
        yield url


def test_an_answer_and_its_headers(url: str) -> None:
    reply = ask(url, "/")
    assert reply.status == 200 and reply.json() == {"thread": "web"}
    assert reply.headers["x-content-type-options"] == "nosniff" and reply.headers["connection"] == "close"
    assert "server" not in reply.headers and "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Host": "evil.example"}, 403), ({"Host": "127.0.0.1.evil.example:1"}, 403), ({"Host": "["}, 403),
     ({"Host": "localhost:7"}, 200), ({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403)],
)  # fmt: skip
def test_other_hosts_and_pages_are_refused(url: str, headers: dict[str, str], status: int) -> None:
    assert ask(url, "/", **headers).status == status
    own = url.removesuffix("/")
    assert ask(url, "/", b"", Origin=own).status == 200


def test_errors_are_json(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert ask(url, "/none").error(404) and ask(url, "/", method="DELETE").error(405)
    assert "secret" not in ask(url, "/broken").error(500)
    assert ask(url, "/").status == 200


def test_a_request_that_never_comes_is_dropped(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.3)
    silent, slow = connect(url), connect(url)
    slow.sendall(b"GET / HTTP/1.1\r\nHost: localh")
    assert everything(silent) == everything(slow) == b""
    assert ask(url, "/").status == 200
    rubbish = connect(url)
    rubbish.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert everything(rubbish).startswith(b"HTTP/1.1 400")


def test_a_client_has_half_of_the_connections(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 6)
    silent = [connect(url) for _ in range(4)]
    assert everything(silent.pop()) == b""
    try:
        assert ask(url, "/", source=OTHER).status == 200
    except OSError as problem:
        pytest.skip(f"this system has one loopback address: {problem}")
    for client in silent:
        client.close()


def test_a_port_that_is_taken() -> None:
    with serving.listen("127.0.0.1", 0) as listener:
        listener.listen()
        with pytest.raises(UsageError, match=r"--port 0"):
            serving.listen("127.0.0.1", listener.getsockname()[1])
    with pytest.raises(UsageError, match=r"no\.such\.host\.invalid"):
        serving.listen("no.such.host.invalid", 1)


def test_addresses() -> None:
    with serving.listen("0.0.0.0", 0) as everywhere:
        assert serving.url(everywhere).startswith("http://127.0.0.1:") and not serving.is_loopback(everywhere)
    with serving.listen("127.0.0.1", 0) as here:
        assert serving.is_loopback(here)


def test_without_the_framework_the_extra_is_named() -> None:
    code = (
        "import sys\nsys.modules['starlette.applications'] = None\nsys.modules['uvicorn'] = None\n"
        "from mue_edge.apps.cli import main as cli\ncli.main(['serve', '--port', '0'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 5 and "mue-edge[apps]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
