"""Live times of policies on the machine that runs this, interleaved so that they share its moods."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.traces.tracing import Sample
from mue_edge.loop.policy import Policy
from mue_edge.sessions.session import Session

WARM_UP = 3
# Label and number of steps → a context that gives what to call after each step.
Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


def seconds(
    runs: Sequence[tuple[Session, Policy]],
    samples: Sequence[Sample],
    label: str,
    progress: Progress,
    clock: str = "wall",
) -> NDArray[np.float64]:
    """Seconds [runs, samples] from the picture's file to the caption: wall-clock, or the process's CPU
    time (`clock` "cpu", which needs one thread) on machines that others use too.

    Every picture is captioned by every run before the next one comes, in random order.
    """
    now = time.process_time if clock == "cpu" else time.perf_counter
    order, times = random.Random(0), np.zeros((len(runs), len(samples)))
    with progress(label, len(samples)) as step:
        for i, sample in enumerate(samples):
            for session, policy in (*runs,) * (WARM_UP if i == 0 else 0):
                session.run(sample.picture, sample.source, policy)
            for r in order.sample(range(len(runs)), len(runs)):
                session, policy = runs[r]
                begin = now()
                session.run(sample.picture, sample.source, policy)
                times[r, i] = now() - begin
            step()
    return times
