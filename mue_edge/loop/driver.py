"""Runs the loop on a runtime, one request after the other.

A runtime is anything with `execute(request) -> Answer`; tensors stay inside it. The asynchronous
drivers of other hosts follow the same requests.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

from mue_edge.errors import EnvironmentLacksError, UsageError
from mue_edge.loop.protocol import Answer, Loop, Outcome, Request

Watcher = Callable[[Request, Answer], None]


class Runtime(Protocol):
    """One bundle on one runtime. `set_pixels` takes [1, 3, H, W] float32."""

    def set_pixels(self, pixels: object) -> None: ...

    def execute(self, request: Request) -> Answer: ...

    def close(self) -> None: ...


@runtime_checkable
class TextRuntime(Protocol):
    """A runtime of a bundle with a text branch. `set_source` takes the ids of the source text."""

    def set_source(self, ids: Sequence[int]) -> None: ...


class ClosedRuntime:
    """What stands for the runtime of a session that was closed. Every use of it raises UsageError."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = bundle

    def set_pixels(self, pixels: object) -> None:
        raise UsageError(f"{self._bundle} was closed here; open it again with mue_edge.open")

    def set_source(self, ids: Sequence[int]) -> None:
        self.set_pixels(None)

    def execute(self, request: Request) -> Answer:
        raise UsageError(f"{self._bundle} was closed while it was in use")

    def close(self) -> None:
        """Nothing is left to free."""


def set_inputs(runtime: Runtime, pixels: object, source: Sequence[int] = ()) -> None:
    """Give a runtime a picture and, for a bundle with a text branch, a text. Raises EnvironmentLacksError."""
    runtime.set_pixels(pixels)
    if source:
        if not isinstance(runtime, TextRuntime):
            raise EnvironmentLacksError(
                f"{type(runtime).__name__} takes pictures only, and this bundle reads a text as well; "
                "export it for another target"
            )
        runtime.set_source(source)


def drive(loop: Loop, runtime: Runtime, watch: Watcher | None = None) -> Outcome:
    """Run a loop to its end; `watch` sees every request with its answer."""
    try:
        request = next(loop)
        while True:
            answer = runtime.execute(request)
            if watch is not None:
                watch(request, answer)
            request = loop.send(answer)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


@contextmanager
def stepwise(runtime: object) -> Iterator[None]:
    """A runtime that lets requests wait runs each by itself and at once, so that the clock tells what it took."""
    if not hasattr(runtime, "stepwise"):
        yield
        return
    before, runtime.stepwise = runtime.stepwise, True
    try:
        yield
    finally:
        runtime.stepwise = before


def kind_of(run: str) -> str:
    """Of a segment: "decoder" of decoder.0, "embed+decoder" of embed+decoder.0."""
    return "+".join(part.partition(".")[0] for part in run.split("+"))


class Stopwatch:
    """A watcher that adds up wall-clock seconds by kind of segment ("image", "decoder", "head" …)."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._last = time.perf_counter()

    def __call__(self, request: Request, answer: Answer) -> None:
        if answer.ran == ():  # counted with what it waits for
            return
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        for run, own in answer.ran or ():
            self.seconds[kind_of(run)] += own
            seconds -= own
        self.seconds[kind_of(answer.ran[-1][0] if answer.ran else request.run)] += seconds
