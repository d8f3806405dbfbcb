"""Where frames come from: the source that an argument names; folders, and standard input."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import threading
import time
from pathlib import Path
from typing import TextIO

from mue_edge.apps.camera.slot import Frame, Newest, Source
from mue_edge.apps.camera.video import Video
from mue_edge.errors import InputFileError, UsageError, command_line
from mue_edge.inputs import gathering, image

POLL_SECONDS = 0.1
MAX_LINE = 4096


class Folder(Source):
    """The newest picture of a folder, then each that comes or changes, once it has stopped growing."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.title = folder, f"the folder {folder}"

    def run(self, slot: Newest, stop: threading.Event) -> None:
        shown: dict[str, tuple[int, int]] | None = None
        before: dict[str, tuple[int, int]] = {}
        while not stop.is_set():
            now = self._look()
            steady = {name: state for name, state in now.items() if before.get(name) == state}
            if shown is None:  # what was there before counts as seen, but for the newest
                shown = dict(now)
                if now:
                    del shown[max(now, key=lambda name: now[name])]
            new = [name for name, state in steady.items() if shown.get(name) != state]
            for name in sorted(new, key=lambda name: steady[name]):
                slot.put(Frame(self._folder / name, time.perf_counter(), name))
            shown = {name: state for name, state in shown.items() if name in now}
            shown |= {name: steady[name] for name in new}
            before = now
            stop.wait(POLL_SECONDS)

    def _look(self) -> dict[str, tuple[int, int]]:
        """Time of change and size of every picture."""
        states: dict[str, tuple[int, int]] = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if Path(entry.name).suffix.lower() in image.SUFFIXES and not entry.name.startswith("."):
                        with contextlib.suppress(OSError):  # gone by now
                            state = entry.stat()
                            if stat.S_ISREG(state.st_mode):
                                states[entry.name] = state.st_mtime_ns, state.st_size
        except OSError as problem:
            raise InputFileError(f"the folder {self._folder} was lost: {problem.strerror}") from problem
        return states


class Piped(Source):
    """A picture, or paths of pictures, a line each, from a stream; its end is the source's."""

    title = "standard input"
    listed = True

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def run(self, slot: Newest, stop: threading.Event) -> None:
        rest = b""
        while not stop.is_set():
            data = self._read()
            if data is None:
                continue
            picture = gathering.is_picture(rest + data)
            if picture:
                slot.put(Frame(self._whole(rest + data, stop), time.perf_counter(), self.title))
                return
            if picture is None:
                raise gathering.unknown_input(self.title)
            *lines, rest = (rest + data).split(b"\n")
            for line in [*lines, *([] if data else [rest])]:
                if name := os.fsdecode(line.rstrip(b"\r")):
                    while not slot.wait(POLL_SECONDS):
                        if stop.is_set():
                            return
                    slot.put(Frame(Path(name), time.perf_counter(), name))
            if not data:
                return
            if len(rest) > MAX_LINE:
                raise InputFileError(f"standard input holds a line of more than {MAX_LINE} bytes: no path")

    def _read(self) -> bytes | None:
        """What came, nothing at the end; None: it goes on. By the descriptor, since a thread that hangs in a
        buffered read cannot be left at the end."""
        descriptor = self._stream.fileno()
        return os.read(descriptor, 65536) if select.select([descriptor], [], [], POLL_SECONDS)[0] else None

    def _whole(self, begun: bytes, stop: threading.Event) -> bytes:
        """A picture up to the stream's end, or to where it is larger than what is read."""
        whole = bytearray(begun)
        while not stop.is_set() and len(whole) <= image.MAX_BYTES:
            if (data := self._read()) == b"":
                break
            whole += data or b""
        return bytes(whole)


def choose(argument: str, stdin: TextIO, *, speed: float = 1.0, loop: bool = False) -> Source:
    """The source that a command's argument names: "0", "/dev/video0", a video file, a folder, "-".

    Raises MueEdgeError for what is none of these or cannot be opened.
    """
    path = Path(argument)
    if argument == "-":
        return Piped(stdin)
    if argument.isdecimal():
        return Video(int(argument))
    if argument.startswith("/dev/video"):
        return Video(argument)
    if path.is_dir():
        return Folder(path)
    if path.suffix.lower() in image.SUFFIXES:
        raise UsageError(f"{argument} is one picture; caption it with: {command_line('caption', 'BUNDLE', argument)}")
    if not path.is_file():
        raise InputFileError(
            f"no source {argument!r}: neither a camera (0, /dev/video0), nor a video file, a folder, or '-'"
        )
    return Video(path, speed=speed, loop=loop)
