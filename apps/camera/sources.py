"""Where frames come from, and the slot between them and the captioner: it holds one, the newest.

A source runs in a thread of its own and puts what it has into the slot; what nobody took by then is dropped.
It ends the slot when it is over, with an error if it was lost.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from mue_edge import image
from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError, missing_extra

if TYPE_CHECKING:
    from PIL.Image import Image

POLL_SECONDS = 0.1
MAX_LINE = 4096
# A camera that gives no picture so many times in a row is lost.
MISSES = 10


@dataclass(frozen=True)
class Frame:
    """A picture, or the file that holds one. taken: when it came, on `time.perf_counter`'s clock."""

    picture: Image | Path
    taken: float
    name: str = ""

    def load(self) -> Image:
        """The picture, checked. Raises InputFileError."""
        return image.load(self.picture)


class Newest:
    """A slot for one frame. `seen` counts what came, `dropped` what was replaced before it was taken."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._ended = False
        self.problem: Exception | None = None
        self.seen = self.dropped = 0

    def put(self, frame: Frame) -> None:
        """The newest frame."""
        with self._changed:
            self.seen += 1
            self.dropped += self._frame is not None
            self._frame = frame
            self._changed.notify()

    def end(self, problem: Exception | None = None) -> None:
        """No more will come."""
        with self._changed:
            self._ended, self.problem = True, problem
            self._changed.notify()

    def take(self, timeout: float) -> Frame | None:
        """The frame that is there, or that comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._ended, timeout)
            frame, self._frame = self._frame, None
            return frame

    @property
    def over(self) -> bool:
        """Whether the source has ended and everything was taken."""
        with self._changed:
            return self._ended and self._frame is None


class Source(ABC):
    """`live`: its frames age while they wait, so that a late one is worthless."""

    live = False
    title = ""

    @abstractmethod
    def run(self, slot: Newest, stop: threading.Event) -> None:
        """Fill the slot until the source is over or `stop` is set. Raises MueEdgeError when it is lost."""

    def start(self, slot: Newest, stop: threading.Event) -> threading.Thread:
        """Run in a thread that dies with the process."""

        def work() -> None:
            problem: Exception | None = None
            try:
                self.run(slot, stop)
            except Exception as found:  # the thread that takes frames reports it
                problem = found
            slot.end(problem)

        thread = threading.Thread(target=work, name="source", daemon=True)
        thread.start()
        return thread


class Video(Source):
    """A camera (index or /dev/videoN), or a video file at its own speed × `speed`; `loop` starts it again."""

    live = True

    def __init__(self, place: int | str | Path, *, speed: float = 1.0, loop: bool = False) -> None:
        self._place, self._speed, self._loop = place, speed, loop
        self._file = isinstance(place, Path)
        self.title = str(place) if self._file else f"camera {place}"
        self._capture = self._open()

    def run(self, slot: Newest, stop: threading.Event) -> None:
        rate = self._capture.get(_opencv().CAP_PROP_FPS) if self._file else 0.0
        pause = 1 / (self._speed * rate) if 0 < rate < 1000 else 1 / (25 * self._speed)
        due, misses, frames = time.perf_counter(), 0, 0
        try:
            while not stop.is_set():
                there, values = self._capture.read()
                if not there and self._file:
                    if not frames:
                        raise InputFileError(f"{self._place} holds no frame that can be decoded")
                    if not self._loop:
                        return
                    self._capture.release()
                    self._capture, frames = self._open(), 0
                    continue
                if not there:
                    misses += 1
                    if misses >= MISSES:
                        raise EnvironmentLacksError(f"{self.title} was lost: it gives no pictures any more")
                    stop.wait(POLL_SECONDS)
                    continue
                misses, frames = 0, frames + 1
                slot.put(Frame(_picture(values), time.perf_counter()))
                if self._file:
                    due += pause
                    stop.wait(max(0.0, due - time.perf_counter()))
        finally:
            self._capture.release()

    def _open(self) -> Any:
        cv2 = _opencv()
        capture = cv2.VideoCapture(str(self._place) if self._file else self._place)
        if not capture.isOpened():
            if self._file:
                raise InputFileError(f"{self._place} is no video that OpenCV can read")
            there = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
            raise EnvironmentLacksError(
                f"{self.title} cannot be opened (under /dev: {there}); name another, a video file, a folder, "
                "or '-' and paths on standard input"
            )
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # else a slow reader sees old pictures
        return capture


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
        found: dict[str, tuple[int, int]] = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if Path(entry.name).suffix.lower() in image.SUFFIXES and not entry.name.startswith("."):
                        with contextlib.suppress(OSError):  # gone by now
                            state = entry.stat()
                            if stat.S_ISREG(state.st_mode):
                                found[entry.name] = state.st_mtime_ns, state.st_size
        except OSError as problem:
            raise InputFileError(f"the folder {self._folder} was lost: {problem.strerror}") from problem
        return found


class Paths(Source):
    """Paths of pictures, a line each, from a stream; its end is the source's."""

    title = "standard input"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def run(self, slot: Newest, stop: threading.Event) -> None:
        # Read by its descriptor: a thread that hangs in a buffered read cannot be left at the end.
        descriptor, rest = self._stream.fileno(), b""
        while not stop.is_set():
            if not select.select([descriptor], [], [], POLL_SECONDS)[0]:
                continue
            data = os.read(descriptor, 65536)
            *lines, rest = (rest + data).split(b"\n")
            for line in [*lines, *([] if data else [rest])]:
                if name := os.fsdecode(line.rstrip(b"\r")):
                    slot.put(Frame(Path(name), time.perf_counter(), name))
            if not data:
                return
            if len(rest) > MAX_LINE:
                raise InputFileError(f"standard input holds a line of more than {MAX_LINE} bytes: no path")


def choose(place: str, stdin: TextIO, *, speed: float = 1.0, loop: bool = False) -> Source:
    """The source that a command's argument names: "0", "/dev/video0", a video file, a folder, "-".

    Raises MueEdgeError for what is none of these or cannot be opened.
    """
    path = Path(place)
    if place == "-":
        return Paths(stdin)
    if place.isdecimal():
        return Video(int(place))
    if place.startswith("/dev/video"):
        return Video(place)
    if path.is_dir():
        return Folder(path)
    if path.suffix.lower() in image.SUFFIXES:
        raise UsageError(f"{place} is one picture; caption it with: mue-edge caption BUNDLE {place}")
    if not path.is_file():
        raise InputFileError(
            f"no source {place!r}: neither a camera (0, /dev/video0), nor a video file, a folder, or '-'"
        )
    return Video(path, speed=speed, loop=loop)


def _picture(values: Any) -> Image:
    """OpenCV's BGR [H, W, 3] as a picture."""
    from PIL import Image as images

    return images.fromarray(values[:, :, ::-1].copy())


def _opencv() -> Any:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # what fails is said here, once
    try:
        import cv2
    except ImportError as problem:
        raise missing_extra("opencv-python-headless", "camera") from problem
    return cv2
