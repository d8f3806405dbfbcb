"""Makes the profile of an opened bundle on the machine that runs this. numpy and Pillow for pictures."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from mue_edge import machine
from mue_edge.inputs.image import PictureSource
from mue_edge.measuring import measure, profile
from mue_edge.sessions.session import Session

# Pictures stay in memory, so that reading them does not disturb what is timed.
MAX_PICTURES = 64
CAPTIONS = 300


@dataclass(frozen=True)
class NetworkInputs:
    """The network's inputs, and the median seconds of making one from a picture (None: none was made);
    `sources`: ids of texts, where the network reads one."""

    pixels: list[object]
    preprocess: float | None
    sources: Sequence[Sequence[int]] = ()


def pictures(
    captioner: Session, files: Sequence[PictureSource], sources: Sequence[Sequence[int]] = ()
) -> NetworkInputs:
    """Up to MAX_PICTURES of the files, evenly chosen, and the texts."""
    made, seconds = [], []
    for file in files[:: math.ceil(len(files) / MAX_PICTURES)]:
        begin = time.perf_counter()
        made.append(captioner.pixels(file))
        seconds.append(time.perf_counter() - begin)
    return NetworkInputs(made, statistics.median(seconds), sources)


@contextmanager
def _stepwise(runtime: Any) -> Iterator[None]:
    """A runtime with a queue waits for every segment, or its time would be counted to a later one."""
    if not hasattr(runtime, "stepwise"):
        yield
        return
    runtime.stepwise = True
    try:
        yield
    finally:
        runtime.stepwise = False


def profiled(
    captioner: Session, shown: NetworkInputs, captions: int = CAPTIONS, *,
    clock: str = "wall", step: Callable[[], object] = lambda: None,
) -> tuple[profile.Profile, tuple[str, ...]]:  # fmt: skip
    """The profile, and the segments of a caption at full depth; `step` is called after each caption.

    `clock`: "wall", or "cpu" for one thread's CPU time. Raises VerificationError as `measure.measure`.
    """
    before, m = machine.load_average(), captioner.bundle.manifest
    timer = time.process_time if clock == "cpu" else time.perf_counter
    setup = measure.Setup(
        captioner.layout,
        captioner.settings(),
        tuple(m.segments),
        captioner.runtime,
        shown.pixels,
        timer,
        shown.sources,
    )
    with _stepwise(captioner.runtime):
        costs = measure.measure(setup, captions, step=step)
    made = profile.Profile(
        schema=profile.SCHEMA, kind=profile.MEASURED, bundle=m.name, target=m.target, precision=m.precision,
        plan_hash=m.plan_hash, macs=profile.total_macs(m), device=machine.device(), runtime=m.runtime.name,
        threads=getattr(captioner.runtime, "threads", 0),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"), segments=costs.segments,
        loop_seconds_per_call=costs.loop_seconds_per_call, caption_seconds=costs.caption_seconds,
        preprocess_seconds=shown.preprocess, noise=costs.noise, error=costs.error, clock=clock,
        checks=costs.checks, clocks=machine.clocks(), versions=machine.versions(),
        load=tuple(filter(math.isfinite, (before, machine.load_average()))),
    )  # fmt: skip
    return made, costs.full_depth
