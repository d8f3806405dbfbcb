"""A client for the applications' servers, and a captioner that computes nothing."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mue_edge.sessions.captioner import Captioner
from tests.made_bundle import LENGTH, Clock, Paced, bundle


def made_captioner() -> Captioner:
    """32 × 32 pixels, six tokens a caption, no time."""
    made = bundle()
    words = replace(made, manifest=replace(made.manifest, model={"vocab_size": 5 + 2 * LENGTH}))
    return Captioner(words, Paced(Clock()))


@dataclass(frozen=True)
class FileGate:
    """Lets processes wait for a file. (Whoever sets an Event waits for its waiters, also for one that was killed.)"""

    path: Path

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.path.exists() and time.monotonic() < end:
            time.sleep(0.01)

    def set(self) -> None:
        self.path.touch()


class HeldCaptioner(Captioner):
    """Captions when the gate opens, be it by a file or by so many captions that are under way."""

    gate: FileGate | Barrier

    def caption(self, picture: Any, **options: Any) -> Any:
        self.gate.wait(60)
        return super().caption(picture, **options)


def held_captioner(gate: FileGate | Barrier) -> Captioner:
    made = made_captioner()
    captioner = HeldCaptioner(made.bundle, made.runtime)
    captioner.gate = gate
    return captioner


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self, status: int) -> str:
        assert self.status == status, self.body
        return str(self.json()["error"])


OTHER = "127.0.0.2"  # another client, where the system gives all of 127/8 to this machine, as Linux does


def ask(
    url: str, path: str, body: bytes | None = None, method: str | None = None, source: str = "127.0.0.1", **headers: str
) -> Reply:
    """One request on a connection of its own, from this address."""
    place = urlsplit(url)
    client = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60, source_address=(source, 0))
    try:
        client.request(method or ("GET" if body is None else "POST"), path, body, headers)
        answer = client.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, found, answer.read())
    finally:
        client.close()


def connect(url: str) -> socket.socket:
    place = urlsplit(url)
    return socket.create_connection((place.hostname or "", place.port or 0), timeout=30)


def everything(client: socket.socket) -> bytes:
    """What the server sends until it hangs up."""
    data = b""
    try:
        while block := client.recv(65536):
            data += block
    except ConnectionResetError:
        pass
    return data
