"""Deadline mode on a real clock with slow moments: `python tools/evidence.py deadline`.

A wrapper of the host runtime sleeps after some calls. For each kind of slow moment and each limit:
captions within the limit, within one segment more, cut short, exact match, and the exact match that
fixed policies reach in the same mean time under the same slow moments.
"""

from __future__ import annotations

import itertools
import random
import statistics
import time
from typing import Any

from mue_edge.captioner import Captioner
from mue_edge.driver import Runtime
from mue_edge.loop import Answer, Request
from mue_edge.policy import Policy

CAPTIONS = 200
SLOWER = 5.0


class Sleepy:
    """Decoder calls take five times as long: one in five, or all of them in bursts."""

    def __init__(self, runtime: Runtime, kind: str) -> None:
        self.runtime, self.kind = runtime, kind
        self.longest = 0.0
        self.again()

    def again(self) -> None:
        """The same slow moments from the start."""
        self.random, self.slow = random.Random(0), False

    def set_pixels(self, pixels: object) -> None:
        self.runtime.set_pixels(pixels)
        self.longest = 0.0

    def execute(self, request: Request) -> Answer:
        started = time.perf_counter()
        answer = self.runtime.execute(request)
        draw = self.random.random()
        if self.kind == "bursts":
            self.slow ^= draw < 0.02
        else:
            self.slow = draw < 0.2
        if self.slow and request.run.startswith("decoder"):
            time.sleep((SLOWER - 1) * (time.perf_counter() - started))
        now = time.perf_counter()
        self.longest = max(self.longest, now - started)
        return Answer(answer.scalars, answer.candidates, now, answer.ran_ahead)

    def close(self) -> None:
        self.runtime.close()


def figures(captioner: Captioner, pictures: list[Any], names: list[str]) -> dict[str, Any]:
    """Pictures are repeated to CAPTIONS; the limits lie between the times of the fastest and full depth."""
    real, found = captioner.runtime, {}
    captioner.warm_up()
    for kind in ("bursts", "random"):
        captioner.runtime = sleepy = Sleepy(real, kind)
        front = captioner.bundle.manifest.policies()
        fixed = {name: _pass(captioner, sleepy, pictures, names, policy) for name, policy in front.items()}
        quick, full = (fixed[name] for name in (next(iter(front)), list(front)[-1]))
        limits = (quick["seconds_p99"], (quick["seconds_p99"] + full["seconds_p99"]) / 2)
        walked = []
        for limit in limits:
            due = _pass(captioner, sleepy, pictures, names, list(front.values())[-1], limit)
            same = _at(due["seconds_mean"], list(fixed.values()))
            walked.append(due | {"limit": limit, "exact_match_fixed_same_time": same})
        found[kind] = {"fixed": fixed, "deadline": walked}
    captioner.runtime = real
    return {"captions": CAPTIONS, "slower": SLOWER, **found}


def _pass(
    captioner: Captioner, runtime: Sleepy, pictures: list[Any], names: list[str], policy: Policy,
    limit: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    runtime.again()
    seconds, hits, cut, hurried, within, one_more = [], 0, 0, 0, 0, 0
    for i in range(CAPTIONS):
        k = i % len(pictures)
        done = captioner.caption(pictures[k], policy=policy, deadline=limit)
        seconds.append(done.seconds["total"])
        hits += done.text.lower() == names[k].lower()
        if done.pacing is not None and limit is not None:
            cut += done.pacing.cut_short
            hurried += done.pacing.hurried
            within += done.pacing.finished <= limit
            one_more += done.pacing.finished <= limit + runtime.longest
    record = {
        "seconds_mean": statistics.fmean(seconds), "seconds_p99": sorted(seconds)[int(0.99 * CAPTIONS)],
        "exact_match": hits / CAPTIONS,
    }  # fmt: skip
    if limit is None:
        return record
    counts = {"cut_short": cut, "hurried": hurried, "within": within, "within_one_segment": one_more}
    return record | {name: count / CAPTIONS for name, count in counts.items()}


def _at(seconds: float, fixed: list[dict[str, Any]]) -> float:
    """Exact match of fixed policies at a mean time, between the two neighbours in time (a mix of them)."""
    points = sorted((f["seconds_mean"], f["exact_match"]) for f in fixed)
    for (t0, q0), (t1, q1) in itertools.pairwise(points):
        if t0 <= seconds <= t1:
            return float(q0 + (q1 - q0) * (seconds - t0) / (t1 - t0))
    return float(points[0][1] if seconds < points[0][0] else points[-1][1])
