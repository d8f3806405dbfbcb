"""A rival in a process of its own, driven over a pipe: a picture's path goes in, tokens and times come back.

The process measures itself, so that neither the pipe nor another rival's memory is in its times.
"""

from __future__ import annotations

import importlib
import os
import signal
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from mue_edge.arrays import Floats
from mue_edge.errors import EnvironmentLacksError, MueEdgeError
from mue_edge.export.rivals.decoding import RivalEngine, caption
from mue_edge.export.rivals.job import RivalJob
from mue_edge.inputs.image import network_input
from mue_edge.measuring.bench import TimeSample, sample

CAPTION, STEM = "caption", "stem"
# A minute for what takes seconds at most; loading compiles.
OPENING_SECONDS, CALL_SECONDS = 600.0, 60.0


@dataclass(frozen=True)
class RivalDone:
    """tokens: of a caption; time: the process's, from the picture's file on."""

    tokens: tuple[int, ...]
    time: TimeSample


class Worker:
    """The rival `name` at work; `close` ends its process, whatever state it is in."""

    def __init__(self, name: str, job: RivalJob, room: str = "mue_edge.export.rivals") -> None:
        """room: the package with the rival's module. Raises EnvironmentLacksError for a rival that cannot be
        opened here."""
        self._name, context = name, get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, f"{room}.{name}", job), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.settings = str(self._receive(OPENING_SECONDS))
        except BaseException:
            self.close()
            raise

    def caption(self, picture: Path) -> RivalDone:
        """From a picture's file to tokens. Raises EnvironmentLacksError for a rival that ended or hangs."""
        return self._call(CAPTION, picture)

    def stem(self, picture: Path) -> RivalDone:
        """From a picture's file through the stem alone. Raises as `caption`."""
        return self._call(STEM, picture)

    def close(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.join()

    def _call(self, what: str, picture: Path) -> RivalDone:
        try:
            self._pipe.send((what, picture))
        except OSError as problem:
            raise self._lost("has ended") from problem
        done = self._receive(CALL_SECONDS)
        assert isinstance(done, RivalDone)
        return done

    def _receive(self, seconds: float) -> object:
        try:
            if not self._pipe.poll(seconds):
                raise self._lost(f"has not answered for {seconds:.0f} s")
            answer = self._pipe.recv()
        except (EOFError, OSError) as problem:
            self._process.join(1)
            raise self._lost(f"has ended (exit code {self._process.exitcode})") from problem
        if isinstance(answer, MueEdgeError):
            raise answer
        return answer

    def _lost(self, how: str) -> EnvironmentLacksError:
        self.close()
        return EnvironmentLacksError(
            f"the rival {self._name} {how}; leave it out, or try: pip install --upgrade {self._name}"
        )


def _serve(pipe: Connection, module: str, job: RivalJob) -> None:
    """Answer until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other end's affair
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what runtimes print is no part of a command's output
    try:
        engine: RivalEngine = importlib.import_module(module).RIVAL(job)
        pipe.send(f"{engine.settings}, {job.threads} thread{'s' * (job.threads > 1)}")
        while True:
            pipe.send(_done(engine, job, *pipe.recv()))
    except (EOFError, BrokenPipeError):
        pass
    except MueEdgeError as problem:
        pipe.send(problem)
    except Exception as problem:  # a runtime's own exceptions share no base class
        pipe.send(EnvironmentLacksError(f"the rival {module} failed: {type(problem).__name__}: {problem}"))


def _done(engine: RivalEngine, job: RivalJob, what: str, picture: Path) -> RivalDone:
    tokens: tuple[int, ...] = ()

    def work() -> None:
        nonlocal tokens
        pixels: Floats = network_input(job.preprocess, picture)
        if what == STEM:
            engine.stem(pixels)
        else:
            tokens = caption(engine, pixels, job.search)

    time = sample(work)
    return RivalDone(tokens, time)
