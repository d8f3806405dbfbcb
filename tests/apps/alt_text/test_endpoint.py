"""The HTTP endpoint: what it answers, and what happens when there is too much of anything."""

from __future__ import annotations

import contextlib
import functools
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from mue_edge.apps import serving
from mue_edge.apps.alt_text.answering import Captioning, Limits
from mue_edge.apps.alt_text.endpoint import Endpoint
from mue_edge.apps.workers import SPAWN, Workers
from mue_edge.errors import UsageError
from mue_edge.sessions.captioner import Captioner
from tests.apps.served import OTHER, FileGate, ask, connect, everything, held_captioner, made_captioner


def encoded(width: int = 20, height: int = 10, kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(data, kind)
    return data.getvalue()


PICTURE = encoded()


@contextlib.contextmanager
def served(
    limits: Limits | None = None, open_captioner: Callable[[], Captioner] = made_captioner, count: int = 1
) -> Iterator[str]:
    limits, manifest = limits or Limits(), made_captioner().bundle.manifest
    with (
        serving.listen("127.0.0.1", 0) as listener,
        Workers(Captioning(open_captioner, None, limits), count) as workers,
    ):
        workers.start()
        endpoint = Endpoint(manifest, workers, None, limits)
        with serving.running(endpoint.app(listener), listener, endpoint.stop) as url:
            yield url


def until(true: Callable[[], bool]) -> None:
    """Wait for what will come, or has failed after a minute."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


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
        until(lambda: ask(place, "/caption", b"x" * 3_000).status == 503)
        reply = ask(place, "/caption", b"x" * 3_000)
        assert "on their way" in reply.error(503) and int(reply.headers["retry-after"]) >= 1
        assert [everything(client)[:12] for client in slow] == [b"HTTP/1.1 408"] * 3
        assert ask(place, "/caption", PICTURE).status == 200


@pytest.fixture
def other_client(url: str) -> str:
    """An address of another client."""
    try:
        ask(url, "/health", source=OTHER)
    except OSError:
        pytest.skip("this system has one loopback address")
    return OTHER


def test_half_sent_bodies_of_a_client_leave_room_for_others(other_client: str) -> None:
    with served(Limits(body=50_000, body_seconds=60.0)) as place:
        slow = [half_sent(place, b"x" * 49_000, 50_000) for _ in range(17)]
        until(lambda: ask(place, "/caption", b"x" * 40_000).status == 503)
        assert "on their way" in ask(place, "/caption", b"x" * 40_000).error(503)
        assert "not a picture" in ask(place, "/caption", b"x" * 40_000, source=other_client).error(415)
        for client in slow:
            client.close()


def test_a_full_queue_says_when_to_come_again(tmp_path: Path) -> None:
    gate = FileGate(tmp_path / "open")
    held = functools.partial(held_captioner, gate)
    with served(Limits(waiting=4), held) as place, ThreadPoolExecutor(100) as pool:
        asked = [pool.submit(ask, place, "/caption", PICTURE) for _ in range(100)]
        until(lambda: sum(a.done() for a in asked) >= 95)
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
    with (
        pytest.raises(UsageError, match="no policy 'quick'"),
        Workers(Captioning(made_captioner, "quick", Limits())) as workers,
    ):
        workers.start()


def test_requests_run_in_parallel_and_the_server_answers_meanwhile() -> None:
    held = functools.partial(held_captioner, SPAWN.Barrier(3))  # opens when all three are captioned at once
    with served(Limits(waiting=0), held, 3) as place, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask, place, "/caption", PICTURE) for _ in range(2)]
        until(lambda: ask(place, "/health").json()["present"] == 2)
        assert "no policy" in ask(place, "/caption?policy=quick", PICTURE).error(400)
        assert ask(place, "/health").json()["workers"] == 3
        asked.append(pool.submit(ask, place, "/caption", PICTURE))
        assert [a.result().status for a in asked] == [200] * 3


def test_a_worker_that_dies_is_replaced_and_no_other_request_fails(tmp_path: Path) -> None:
    gate, others = FileGate(tmp_path / "open"), set(multiprocessing.active_children())
    with served(Limits(), functools.partial(held_captioner, gate), 2) as place, ThreadPoolExecutor(3) as pool:

        def workers() -> list[BaseProcess]:
            return [process for process in multiprocessing.active_children() if process not in others]

        asked = [pool.submit(ask, place, "/caption", PICTURE) for _ in range(3)]  # two run, one waits
        until(lambda: ask(place, "/health").json()["present"] == 3)
        first = workers()
        first[0].kill()
        until(lambda: any(a.done() for a in asked) and len(set(workers()) - set(first)) == 1)
        gate.set()
        replies = [a.result() for a in asked]
        assert Counter(r.status for r in replies) == {200: 2, 503: 1}
        assert "died" in next(r for r in replies if r.status == 503).error(503)
        for process in workers():  # who dies at rest is missed by nobody
            process.kill()
            process.join()
        assert [ask(place, "/caption", PICTURE).status for _ in range(3)] == [200] * 3


def command(bundle: Path, folder: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """`mue-edge serve` in a folder, and where it serves."""
    line = [sys.executable, "-m", "mue_edge", "serve", "--bundle", str(bundle), "--port", "0", *options]
    root = Path(serving.__file__).resolve().parent.parent
    (folder / "temporary").mkdir()
    env = {**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(folder / "temporary")}
    server = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=env)
    assert server.stdout is not None
    return server, server.stdout.readline().split()[2].rstrip(";")


def test_the_command_serves_writes_nothing_and_stops_on_sigint(tiny_bundle: Path, tmp_path: Path) -> None:
    server, place = command(tiny_bundle, tmp_path)
    try:
        assert ask(place, "/caption", PICTURE).json()["alt"]
        assert ask(place, "/caption", b"junk").status == 415
    finally:
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=60)
    assert (server.returncode, out, err) == (0, "stopped\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]


def workers_of(server: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    if not children.exists():
        pytest.skip("this system does not tell a process's children")
    pids = [int(pid) for pid in children.read_text().split()]
    return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def lives(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_sigterm_answers_everybody_and_ends_busy_workers(tiny_bundle: Path, tmp_path: Path) -> None:
    server, place = command(tiny_bundle, tmp_path, "--workers", "2", "--waiting", "2")
    with ThreadPoolExecutor(4) as pool:
        workers = workers_of(server)
        assert len(workers) == 2 and ask(place, "/caption", PICTURE).status == 200
        for pid in workers:
            os.kill(pid, signal.SIGTERM)  # as a supervisor does that signals a whole group
            os.kill(pid, signal.SIGSTOP)
        asked = [pool.submit(ask, place, "/caption", PICTURE) for _ in range(4)]
        until(lambda: bool(ask(place, "/health").json()["present"] == 4))
        server.send_signal(signal.SIGTERM)
        replies = [done.result() for done in as_completed(asked)]
        out, err = server.communicate(timeout=60)
    assert (server.returncode, out, err) == (0, "stopped\n", "")
    assert all("stopping" in reply.error(503) for reply in replies)
    assert not any(map(lives, workers)) and not list((tmp_path / "temporary").glob("mue-edge*"))


def test_workers_end_with_a_server_that_was_killed(tiny_bundle: Path, tmp_path: Path) -> None:
    server, _ = command(tiny_bundle, tmp_path)
    workers = workers_of(server)
    assert workers and all(map(lives, workers))
    server.kill()
    server.communicate(timeout=60)
    until(lambda: not any(map(lives, workers)))
