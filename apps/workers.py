"""Processes that compute for a server, a job at a time each; one that dies is replaced.

They are spawned, which every system can, and which no runtime's threads get in the way of. A worker ends when its
pipe does, so that none outlives its server, however that ended; and where one dies, no other loses its job. (Of a
ProcessPoolExecutor neither is true.)
"""

from __future__ import annotations

import contextlib
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any

from mue_edge.errors import EnvironmentLacksError, MueEdgeError

SPAWN = get_context("spawn")
# What a terminal or a supervisor sends to all processes of a group: the server says when its workers end.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Answer = Callable[..., Any]
Opening = Callable[[], Answer]


class WorkerDiedError(MueEdgeError):
    """A worker process ended before its answer came."""


class Workers:
    """So many workers, each of which calls `opening` once, for what then answers its jobs. Both are pickled, so are
    a job's arguments and its answer."""

    def __init__(self, opening: Opening, count: int = 1) -> None:
        self.count = count
        self._workers = [_Worker(opening) for _ in range(count)]
        self._free: SimpleQueue[_Worker] = SimpleQueue()
        self._threads = ThreadPoolExecutor(count, "worker")  # a thread waits for each busy worker

    def start(self) -> None:
        """Start them, the first one alone: what it makes for all is there then. Raises what `opening` raises,
        and EnvironmentLacksError if a worker dies in it."""
        for starting in (self._workers[:1], self._workers[1:]):
            for worker in starting:
                worker.start()
                self._free.put(worker)
            try:
                for worker in starting:
                    worker.wait()
            except (EOFError, OSError) as problem:
                raise EnvironmentLacksError(
                    "a worker process died while it started (out of memory?); try fewer --workers"
                ) from problem

    def submit(self, *job: Any) -> Future[Any]:
        """The answer to a job. It raises MueEdgeErrors that the worker raised, WorkerDiedError if it died, and
        RuntimeError for an error inside it, whose traceback the worker prints."""
        return self._threads.submit(self._ask, job)

    def refuse(self) -> None:
        """Cancel the jobs that no worker has begun, and take no others."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End them now, whatever they do."""
        self.refuse()
        for worker in self._workers:
            worker.close()
        self._threads.shutdown()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def _ask(self, job: tuple[Any, ...]) -> Any:
        worker = self._free.get()
        try:
            return worker.ask(job)
        finally:
            self._free.put(worker)


class _Worker:
    """A process and the pipe to it, and whoever comes in its place."""

    def __init__(self, opening: Opening) -> None:
        self._opening, self._changing, self._closed = opening, threading.Lock(), False
        self._process: BaseProcess | None = None
        self._pipe: Connection
        self._open = False

    def start(self) -> None:
        with self._changing:
            if self._closed:
                raise WorkerDiedError("the server is stopping")
            self._pipe, its_end = SPAWN.Pipe()
            process = SPAWN.Process(target=_work, args=(its_end, self._opening), daemon=True)
            with its_end, _signals_blocked():
                process.start()
            self._process, self._open = process, False

    def wait(self) -> None:
        """Until it is open."""
        if not self._open:
            self._receive()
            self._open = True

    def ask(self, job: tuple[Any, ...]) -> Any:
        if self._process is None or not self._process.is_alive():  # it died at rest
            self.start()
        try:
            self.wait()
            self._pipe.send(job)
            return self._receive()
        except (EOFError, OSError) as problem:
            self._pipe.close()
            self.start()
            raise WorkerDiedError(
                "the process that worked on this died (out of memory?); another takes its place"
            ) from problem

    def close(self) -> None:
        with self._changing:
            self._closed = True
            if self._process is not None:
                self._process.kill()
                self._process.join()

    def _receive(self) -> Any:
        succeeded, value = self._pipe.recv()
        if not succeeded:
            raise value
        return value


def _work(pipe: Connection, opening: Opening) -> None:
    """A worker's life: until the server hangs up."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):
        opened, answer = _outcome(opening)
        pipe.send((opened, None if opened else answer))
        while opened:
            pipe.send(_outcome(answer, *pipe.recv()))


def _outcome(function: Answer, *arguments: Any) -> tuple[bool, Any]:
    """Whether it returned, and what it returned or raised."""
    try:
        return True, function(*arguments)
    except MueEdgeError as problem:
        return False, problem
    except Exception as problem:
        traceback.print_exc()
        return False, RuntimeError(f"{type(problem).__name__} in a worker process")


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """For a process that is started meanwhile, until it sees to them itself; Windows has no such thing."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would be started with the first process, and lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
