"""A client for the applications' servers, and a captioner that computes nothing."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self, status: int) -> str:
        assert self.status == status, self.body
        return str(self.json()["error"])


def ask(url: str, path: str, body: bytes | None = None, method: str | None = None, **headers: str) -> Reply:
    """One request on a connection of its own."""
    place = urlsplit(url)
    client = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
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
