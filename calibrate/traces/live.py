"""Live times of policies on the machine that runs this, interleaved so that they share its moods."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.traces.outcomes import Sample
from mue_edge.loop.policy import Policy
from mue_edge.sessions.session import Session

WARM_UP = 3


def seconds(
    runs: Sequence[tuple[Session, Policy]], samples: Sequence[Sample], *,
    clock: str = "wall", seed: int = 0, progress: Callable[[], None] | None = None,
) -> NDArray[np.float64]:  # fmt: skip
    """Seconds [runs, samples] from the picture's file to the caption: wall-clock, or the process's CPU
    time (`clock` "cpu", which needs one thread) on machines that others use too.

    Every picture is captioned by every run before the next one comes, in random order.
    """
    now = time.process_time if clock == "cpu" else time.perf_counter
    order, found = random.Random(seed), np.zeros((len(runs), len(samples)))
    for i, sample in enumerate(samples):
        for captioner, policy in (*runs,) * (WARM_UP if i == 0 else 0):
            captioner.run(sample.picture, sample.source, policy)
        for r in order.sample(range(len(runs)), len(runs)):
            captioner, policy = runs[r]
            begin = now()
            captioner.run(sample.picture, sample.source, policy)
            found[r, i] = now() - begin
        if progress is not None:
            progress()
    return found
