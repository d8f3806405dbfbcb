"""The command `mue-edge camera` while it runs: what it says of frames, and how it ends."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from proving import ROOT

# In the place of OpenCV: a camera of noise that ends after some seconds.
STAND_IN = """
import time
import numpy
CAP_PROP_FPS, CAP_PROP_BUFFERSIZE = 5, 38

class VideoCapture:
    def __init__(self, place):
        self.end = time.monotonic() + 5

    def isOpened(self):
        return True

    def set(self, key, value):
        return True

    def read(self):
        if time.monotonic() > self.end:
            {end}
        time.sleep(0.03)
        return True, numpy.random.randint(0, 255, (240, 320, 3), numpy.uint8)

    def release(self): ...
"""


class Camera:
    """The command, with what it says of frames."""

    def __init__(
        self, *words: str, page: bool = False, shim: Path | None = None, stdin: Any = None, cwd: Path = ROOT
    ) -> None:
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115  as long as the command
        path = [str(shim)] * (shim is not None)
        code = f"import sys; sys.path[:0] = {[*path, str(ROOT)]!r}; "
        code += "from mue_edge.apps.cli.main import main; main()"
        how = ["--port", "0"] if page else ["--json"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "camera", *words, *how], cwd=cwd, text=True, bufsize=1,
            stdin=stdin, stdout=subprocess.PIPE, stderr=self.said,
        )  # fmt: skip
        self.frames: list[dict[str, Any]] = []
        self.counts: dict[str, Any] = {}
        read = self._events if page else self._lines
        self.reader = threading.Thread(target=read, daemon=True)
        self.reader.start()

    def _lines(self) -> None:
        for line in self.process.stdout or ():
            self._told(json.loads(line))

    def _events(self) -> None:
        """As the page does: a picture for every event."""
        assert self.process.stdout is not None
        place = urlsplit(self.process.stdout.readline().split("look at ")[1].partition(";")[0])
        events, pictures = (http.client.HTTPConnection(place.netloc) for _ in range(2))
        events.request("GET", "/events")
        for line in events.getresponse():
            found = json.loads(line[6:]) if line.startswith(b"data: ") else {}
            if "latency" in found:
                self._told(found)
                pictures.request("GET", "/frame")
                pictures.getresponse().read()

    def _told(self, found: dict[str, Any]) -> None:
        self.counts = found.pop("counts", self.counts)
        if found:
            self.frames.append(found)

    def started(self) -> None:
        """Wait for its first caption."""
        while not self.frames and self.process.poll() is None:
            time.sleep(0.1)

    def stop(self) -> dict[str, Any]:
        """By SIGINT, if it runs: seconds until it has ended, exit code, the last line that it said."""
        began = time.perf_counter()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.ended(began)

    def ended(self, began: float) -> dict[str, Any]:
        """By itself."""
        code = self.process.wait(60)
        took = time.perf_counter() - began
        self.reader.join(10)
        self.said.seek(0)
        last = self.said.read().strip().splitlines()[-1:]
        return {"seconds": round(took, 2), "exit_code": code, "said": "".join(last)}
