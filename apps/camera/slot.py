"""What stands between a source of frames and the captioner: a slot that holds one frame, the newest.

A source runs in a thread of its own and puts what it has into the slot; what nobody took by then is dropped,
unless the source waits.
It ends the slot when it is over, with an error if it was lost.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from PIL.Image import Image

from mue_edge.inputs.image import PictureSource


@dataclass(frozen=True)
class Frame:
    """A picture, the file that holds one, or what makes it, so that only frames that are taken pay for it.

    taken: when it came, on `time.perf_counter`'s clock.
    """

    picture: PictureSource | Callable[[], Image]
    taken: float
    name: str = ""

    def read(self) -> PictureSource:
        """What is to be loaded."""
        return self.picture() if callable(self.picture) else self.picture


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

    def wait(self, timeout: float) -> bool:
        """Whether the slot is empty, or becomes so in time: for a source of which nothing is dropped."""
        with self._changed:
            return self._changed.wait_for(lambda: self._frame is None, timeout)

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
            self._changed.notify()
            return frame

    @property
    def over(self) -> bool:
        """Whether the source has ended and everything was taken."""
        with self._changed:
            return self._ended and self._frame is None


class Source(ABC):
    """`live`: its frames age while they wait, so that a late one is worthless. `listed`: somebody named each
    of them, so that none is dropped and each has its line."""

    live = False
    listed = False
    title = ""

    @abstractmethod
    def run(self, slot: Newest, stop: threading.Event) -> None:
        """Fill the slot until the source is over or `stop` is set. Raises MueEdgeError when it is lost."""

    def start(self, slot: Newest, stop: threading.Event) -> threading.Thread:
        """Run in a thread that dies with the process."""

        def work() -> None:
            try:
                self.run(slot, stop)
            except Exception as problem:  # the thread that takes frames reports it
                slot.end(problem)
            else:
                slot.end()

        thread = threading.Thread(target=work, name="source", daemon=True)
        thread.start()
        return thread
