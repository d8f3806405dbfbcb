"""The HTTP endpoint: what it answers, and what happens when there is too much of anything."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from mue_edge.apps import serving
from mue_edge.apps.alt_text.endpoint import Endpoint, Limits
from mue_edge.errors import UsageError
from mue_edge.sessions.captioner import Captioner
from tests.apps.served import ask, connect, everything, made_captioner


def encoded(width: int = 20, height: int = 10, kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(data, kind)
    return data.getvalue()


PICTURE = encoded()


@contextlib.contextmanager
def served(limits: Limits | None = None, open_captioner: Callable[[], Captioner] = made_captioner) -> Iterator[str]:
    with serving.listen("127.0.0.1", 0) as listener:
        endpoint = Endpoint(open_captioner, None, limits or Limits())
        endpoint.start()
        with serving.running(endpoint.app(listener), listener) as url:
            yield url


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(Limits(body=50_000, pixels=10_000, body_seconds=1.0)) as place:
        yield place


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_picture_gets_alt_text(url: str, kind: str) -> None:
    reply = ask(url, "/caption", encoded(kind=kind))
    assert reply.status == 200 and reply.headers["content-type"] == "application/json"
    record = reply.json()
    assert record["alt"] and record["policy"] == "full" and record["exits"]["decoder"] == [3] * 6
    assert ask(url, "/health").json()["present"] == 0
    assert "POST /caption" in ask(url, "/").json()


def bomb() -> bytes:
    """A small file of many pixels."""
    data = io.BytesIO()
    Image.new("1", (9000, 9000)).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [(b"", 400, "empty"), (b"x" * 50_001, 413, "50,000 bytes"), (b"hello", 415, "not a picture"),
     (PICTURE[:50], 415, "truncated"), (encoded(101, 100), 415, "pixels"), (bomb(), 415, "pixels"),
     (b"--x\r\nContent-Disposition: form-data\r\n\r\n" + PICTURE, 415, "not a picture")],
)  # fmt: skip
def test_what_is_no_picture(url: str, body: bytes, status: int, says: str) -> None:
    assert says in ask(url, "/caption", body).error(status)
    assert ask(url, "/caption", PICTURE).status == 200


def form(*parts: tuple[str, str, bytes], boundary: str = "x-1") -> tuple[bytes, dict[str, str]]:
    """A body of (name, file name, bytes), and its header."""
    body = b""
    for name, file, data in parts:
        named = f'form-data; name="{name}"' + (f'; filename="{file}"\r\nContent-Type: x/y' if file else "")
        body += f"--{boundary}\r\nContent-Disposition: {named}\r\n\r\n".encode() + data + b"\r\n"
    kind = f'multipart/form-data; boundary="{boundary}"'
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": kind}


@pytest.mark.parametrize(
    "parts",
    [
        [("picture", "a.png", PICTURE)], [("anything", "a b.png", PICTURE), ("second", "c.png", b"words")],
        [("note", "", b"hello"), ("empty", "none.png", b""), ("f", "x", PICTURE + b"\r\n--x-10\r\n--x")],
    ],
)  # fmt: skip
def test_the_first_file_of_a_form_is_the_picture(url: str, parts: list[tuple[str, str, bytes]]) -> None:
    body, headers = form(*parts)
    reply = ask(url, "/caption", body, **headers)
    assert reply.status == 200 and reply.json()["alt"] == ask(url, "/caption", PICTURE).json()["alt"]
    assert "-F picture=@" in ask(url, "/").json()["or as a form"]


@pytest.mark.parametrize(
    ("parts", "status", "says"),
    [([("picture", "a.png", b"words")], 415, "curl -F picture=@picture.png"), ([], 400, "no file"),
     ([("p", "", PICTURE)], 400, "no file"),
     ([("picture", "a.png", PICTURE), ("policy", "", b"quick")], 400, "no policy 'quick'"),
     ([("n", "", b"")] * 40 + [("picture", "a.png", PICTURE)], 400, "over 32 parts")],
)  # fmt: skip
def test_forms_that_do_not_fit(url: str, parts: list[tuple[str, str, bytes]], status: int, says: str) -> None:
    body, headers = form(*parts)
    assert says in ask(url, "/caption", body, **headers).error(status)


def test_a_form_that_is_cut_off_or_has_no_boundary(url: str) -> None:
    body, headers = form(("picture", "a.png", PICTURE))
    assert "boundary" in ask(url, "/caption", body[:-8], **headers).error(400)
    headers["Content-Type"] = "multipart/form-data"
    assert "boundary" in ask(url, "/caption", body, **headers).error(400)


def test_a_body_that_is_no_picture_is_told_what_is(url: str) -> None:
    assert "a form with a file" in ask(url, "/caption", b"words").error(415)


def test_the_type_is_what_the_bytes_say(url: str) -> None:
    headers: dict[str, Any] = {"Content-Type": "image/png"}
    assert ask(url, "/caption", b"<svg></svg>", **headers).error(415)
    assert ask(url, "/caption", PICTURE, **{"Content-Type": "text/html"}).status == 200


def test_policies_are_names_of_the_front_and_no_files(url: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text("{}")
    assert ask(url, "/caption?policy=full", PICTURE).status == 200
    assert "(full)" in ask(url, f"/caption?policy={policy}", PICTURE).error(400)


def test_a_body_without_a_length_is_counted(url: str) -> None:
    client = connect(url)
    client.sendall(b"POST /caption HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(6):
        client.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
    client.sendall(b"0\r\n\r\n")
    assert everything(client).startswith(b"HTTP/1.1 413")


def test_slow_clients_are_told_and_leave_their_place(url: str) -> None:
    slow = [connect(url) for _ in range(5)]
    for client in slow:
        client.sendall(b"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n" + b"x" * 9)
    gone = connect(url)
    gone.sendall(b"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx")
    gone.close()
    assert ask(url, "/caption", PICTURE).status == 200  # meanwhile others are served
    for client in slow:
        assert everything(client).startswith(b"HTTP/1.1 408")
    assert ask(url, "/health").json()["present"] == 0


def half_sent(place: str, data: bytes, length: int) -> Any:
    client = connect(place)
    client.sendall(f"POST /caption HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode() + data)
    return client


def test_bodies_on_their_way_keep_nobody_waiting() -> None:
    with served(Limits(waiting=2, body_seconds=60.0)) as place:
        slow = [half_sent(place, PICTURE[:9], len(PICTURE)) for _ in range(20)]
        assert ask(place, "/caption", PICTURE).status == 200
        for client in slow:
            client.sendall(PICTURE[9:])
        assert Counter(everything(client)[:12] for client in slow).keys() <= {b"HTTP/1.1 200", b"HTTP/1.1 503"}


def test_bodies_on_their_way_hold_no_more_than_a_full_queue() -> None:
    with served(Limits(waiting=1, body=50_000, body_seconds=3.0)) as place:
        slow = [half_sent(place, b"x" * 49_000, 50_000) for _ in range(3)]
        until = time.monotonic() + 30
        while (reply := ask(place, "/caption", b"x" * 3_000)).status != 503 and time.monotonic() < until:
            time.sleep(0.01)
        assert "on their way" in reply.error(503) and int(reply.headers["retry-after"]) >= 1
        assert [everything(client)[:12] for client in slow] == [b"HTTP/1.1 408"] * 3
        assert ask(place, "/caption", PICTURE).status == 200


class Held(Captioner):
    """Captions when it is let."""

    gate: threading.Event

    def caption(self, picture: Any, **options: Any) -> Any:
        assert self.gate.wait(30)
        return super().caption(picture, **options)


def test_a_full_queue_says_when_to_come_again() -> None:
    gate = threading.Event()

    def held() -> Captioner:
        made = made_captioner()
        captioner = Held(made.bundle, made.runtime)
        captioner.gate = gate
        return captioner

    with served(Limits(waiting=4), held) as place, ThreadPoolExecutor(100) as pool:
        asked = [pool.submit(ask, place, "/caption", PICTURE) for _ in range(100)]
        until = time.monotonic() + 30
        while sum(a.done() for a in asked) < 95 and time.monotonic() < until:
            time.sleep(0.01)
        refused = [a.result() for a in asked if a.done()]
        assert ask(place, "/health").json()["present"] == 5
        gate.set()
        replies = [a.result() for a in asked]
        assert ask(place, "/health").json()["present"] == 0
    assert Counter(r.status for r in replies) == {503: 95, 200: 5}
    assert all(int(r.headers["retry-after"]) >= 1 and r.error(503) for r in refused)


def test_a_hundred_at_once_with_room(url: str) -> None:
    with served(Limits(waiting=100)) as place, ThreadPoolExecutor(100) as pool:
        bodies = [PICTURE if i % 2 else b"junk" for i in range(100)]
        replies = list(pool.map(lambda body: ask(place, "/caption", body).status, bodies))
    assert replies == [200 if i % 2 else 415 for i in range(100)]


def test_an_unknown_policy_shows_before_anything_is_served() -> None:
    with pytest.raises(UsageError, match="no policy 'quick'"):
        Endpoint(made_captioner, "quick", Limits()).start()


def test_the_command_serves_writes_nothing_and_stops_on_sigint(tiny_bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mue_edge", "serve", "--bundle", str(tiny_bundle), "--port", "0"]
    root = Path(serving.__file__).resolve().parent.parent
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        assert server.stdout is not None
        place = server.stdout.readline().split()[2].rstrip(";")
        assert ask(place, "/caption", PICTURE).json()["alt"]
        assert ask(place, "/caption", b"junk").status == 415
    finally:
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=30)
    assert (server.returncode, out, err) == (0, "stopped\n", "")
    assert list(tmp_path.iterdir()) == []
