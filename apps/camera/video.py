"""A camera or a video file, by OpenCV."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image as images
from PIL.Image import Image

from mue_edge.apps.camera.slot import Frame, Newest, Source
from mue_edge.errors import EnvironmentLacksError, InputFileError, missing_extra

POLL_SECONDS = 0.1
# A camera that gives no picture so many times in a row is lost.
MISSES = 10


class Video(Source):
    """A camera (index or /dev/videoN), or a video file at its own speed × `speed`; `loop` starts it again."""

    live = True

    def __init__(self, path: int | str | Path, *, speed: float = 1.0, loop: bool = False) -> None:
        self._path, self._speed, self._loop = path, speed, loop
        self._file = isinstance(path, Path)
        self.title = str(path) if self._file else f"camera {path}"
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
                        raise InputFileError(f"{self._path} holds no frame that can be decoded")
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
                slot.put(Frame(partial(_picture, values), time.perf_counter()))
                if self._file:
                    due += pause
                    stop.wait(max(0.0, due - time.perf_counter()))
        finally:
            self._capture.release()

    def _open(self) -> Any:
        cv2 = _opencv()
        capture = cv2.VideoCapture(str(self._path) if self._file else self._path)
        if not capture.isOpened():
            if self._file:
                raise InputFileError(f"{self._path} is no video that OpenCV can read")
            there = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
            raise EnvironmentLacksError(
                f"{self.title} cannot be opened (under /dev: {there}); name another, a video file, a folder, "
                "or '-' for standard input"
            )
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # else a slow reader sees old pictures
        return capture


def _picture(values: Any) -> Image:
    """OpenCV's BGR [H, W, 3] as a picture."""
    return images.fromarray(values[:, :, ::-1].copy())


def _opencv() -> Any:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # what fails is said here, once
    try:
        import cv2
    except ImportError as problem:
        raise missing_extra("opencv-python-headless", "camera") from problem
    return cv2
