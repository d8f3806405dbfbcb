"""Addresses on the command line: what a server can do wrong, and who never fetches."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mue_edge.errors import InputFileError
from mue_edge.inputs import fetching, gathering, image
from tests.apps.cli.run import Runner, picture, stdin


class Handler(http.server.BaseHTTPRequestHandler):
    data = b""

    def do_GET(self) -> None:
        if self.path.startswith("/to/") or self.path == "/circle.png":
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        if self.path == "/gone.png":
            self.send_error(404)
            return
        if self.path == "/slow-head.png":
            for _ in range(100):
                self.wfile.write(b"H")
                time.sleep(0.05)
            return
        self.send_response(200)
        if self.path == "/announced.png":
            self.send_header("Content-Length", str(1 << 40))
        self.end_headers()
        if self.path in ("/endless.png", "/announced.png"):
            while True:
                self.wfile.write(bytes(1 << 16))
        if self.path == "/dripping.png":
            while True:
                self.wfile.write(b"x")
                time.sleep(0.05)
        self.wfile.write(self.data)

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client has left
            super().handle()

    def log_message(self, *args: object) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]


class Server:
    """On this machine alone; `asked` holds the paths."""

    def __init__(self, data: bytes) -> None:
        handler = type("Own", (Handler,), {"data": data})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.asked: list[str] = []
        self._server.asked = self.asked  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server(picture(tmp_path / "here.png").read_bytes())
    yield made
    made.stop()


def test_a_picture_is_fetched(server: Server) -> None:
    for path in ("/a.png", "/to//b.png", "/to/" + server.url + "/c.png", "/Käse und mehr.png?a=b%20c"):
        (found,) = gathering.gather([server.url + path])
        assert str(found) == server.url + path
        assert image.load(found).rgb.size == (50, 60)
    assert server.asked[-1] == "/K%C3%A4se%20und%20mehr.png?a=b%20c"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/gone.png", "404"), ("/endless.png", "more than 1,000,000 bytes"),
        ("/announced.png", "more than 1,000,000 bytes"), ("/dripping.png", "not there within 1 s"),
        ("/slow-head.png", "not there within 1 s"), ("/to/file:///etc/passwd", "not allowed"),
        ("/circle.png", "infinite loop"),
        ("/to/ftp://127.0.0.1/a.png", "no http or https address"),
    ],
)  # fmt: skip
def test_what_a_server_can_do(server: Server, path: str, says: str) -> None:
    with pytest.raises(InputFileError, match=says) as caught:
        fetching.fetch(server.url + path, max_bytes=1_000_000, seconds=1.0)
    assert server.url in str(caught.value) and "\n" not in str(caught.value)


def test_addresses_that_lead_nowhere(server: Server) -> None:
    stopped = Server(b"")
    stopped.stop()
    for address in (stopped.url, "http://", "http://[", "http://a b/", "http://127.0.0.1:99999/", "https://%00/"):
        with pytest.raises(InputFileError, match="cannot be fetched"):
            fetching.fetch(address, seconds=5)


def test_the_command(run: Runner, server: Server, tiny_bundle: Path, tmp_path: Path) -> None:
    expected = run("caption", tiny_bundle, tmp_path / "here.png").out
    assert run("caption", tiny_bundle, server.url + "/a.png").out == expected
    done = run("caption", tiny_bundle, server.url + "/gone.png", tmp_path / "here.png")
    assert "404" in done.error(4) and done.out.endswith(expected)


def test_who_never_fetches(
    run: Runner, server: Server, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.url + "/a.png"
    with pytest.raises(InputFileError, match="does not exist"):
        image.load(address)
    monkeypatch.setattr("sys.stdin", stdin(address.encode()))
    assert "does not exist" in run("caption", tiny_bundle, "-").error(4)
    page = tmp_path / "page.html"
    page.write_text(f'<img src="{address}">')
    assert "left alone" in run("alt-text", page, "--bundle", tiny_bundle).out
    table = tmp_path / "table.csv"
    table.write_text(f"image,caption\n{address},a b c\n")
    assert run("evaluate", tiny_bundle, "--data", table).code != 0
    assert server.asked == []
