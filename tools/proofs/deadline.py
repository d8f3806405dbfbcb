"""Deadline mode on a real clock with slow moments.

A wrapper of the host runtime sleeps after some calls. For each kind of slow moment and each limit:
captions within the limit, within one segment more, cut short, CIDEr-D and exact match, and what fixed
policies reach of both in the same mean time under the same slow moments.
"""

from __future__ import annotations

import itertools
import random
import statistics
import time
from dataclasses import dataclass
from typing import Any

from mue_edge import machine, targets
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics.cider import Frequencies, Scorer
from mue_edge.calibrate.report.pages import table
from mue_edge.inputs import image
from mue_edge.loop.driver import Runtime
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import Answer, Request
from mue_edge.sessions.captioner import Captioner
from proving.bundles import bundle
from proving.pictures import bundled_samples
from proving.rendering import Record
from proving.rendering import holds as yes_or_no

SLOWER = 5.0
# What is promised: captions within the limit and one segment, those cut short, CIDEr-D of that of fixed
# policies of the same mean time.
WITHIN, CUT_SHORT, KEPT = 0.99, 0.05, 0.9
DIGITS = {"cider_d": 2, "exact_match": 3}  # that are shown
QUALITIES = tuple(DIGITS)
QUIET = True


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


@dataclass(frozen=True)
class Shown:
    """Decoded pictures, the caption that each should have, and how captions are scored."""

    pictures: tuple[Any, ...]
    wanted: tuple[str, ...]
    score: Scorer


def figures(captioner: Captioner, part: Samples, known: Frequencies) -> dict[str, Any]:
    """Of captioned pictures; the limits lie between the times of the fastest policy and full depth."""
    assert part.references is not None
    shown = Shown(
        tuple(image.load(sample.picture) for sample in part.samples),
        tuple(references[0] for references in part.references),
        Scorer(part.references, known),
    )
    real, found = captioner.runtime, {}
    captioner.warm_up()
    for kind in ("bursts", "random"):
        captioner.runtime = sleepy = Sleepy(real, kind)
        front = captioner.bundle.manifest.policies()
        fixed = {name: _pass(captioner, sleepy, shown, policy) for name, policy in front.items()}
        quick, full = (fixed[name] for name in (next(iter(front)), list(front)[-1]))
        limits = (quick["seconds_p99"], (quick["seconds_p99"] + full["seconds_p99"]) / 2)
        walked = []
        for limit in limits:
            due = _pass(captioner, sleepy, shown, list(front.values())[-1], limit)
            same = {name: _at(due["seconds_mean"], list(fixed.values()), name) for name in QUALITIES}
            walked.append({"limit": limit} | due | {"fixed_same_time": same, "holds": holds(due, same)})
        found[kind] = {"fixed": fixed, "deadline": walked}
    captioner.runtime = real
    return {"captions": len(part), "pictures": part.source, "slower": SLOWER, **found}


def holds(due: dict[str, Any], same: dict[str, float]) -> bool:
    """Whether a pass under a deadline kept what is promised."""
    return bool(
        due["within_one_segment"] >= WITHIN
        and due["cut_short"] <= CUT_SHORT
        and due["cider_d"] >= KEPT * same["cider_d"]
    )


def _pass(
    captioner: Captioner, runtime: Sleepy, shown: Shown, policy: Policy, limit: float | None = None
) -> dict[str, Any]:
    runtime.again()
    seconds, texts, cut, hurried, within, one_more = [], [], 0, 0, 0, 0
    for picture in shown.pictures:
        done = captioner.caption(picture, policy=policy, deadline=limit)
        seconds.append(done.seconds["total"])
        texts.append(done.text.strip().lower())
        if done.deadline is not None and limit is not None:
            cut += done.deadline.cut_short
            hurried += done.deadline.hurried
            within += done.deadline.finished <= limit
            one_more += done.deadline.finished <= limit + runtime.longest
    count = len(texts)
    record = {
        "seconds_mean": statistics.fmean(seconds),
        "seconds_p99": sorted(seconds)[int(0.99 * count)],
        "cider_d": statistics.fmean(shown.score(texts)),
        "exact_match": statistics.fmean(a == b for a, b in zip(texts, shown.wanted, strict=True)),
    }
    if limit is None:
        return record
    counts = {"cut_short": cut, "hurried": hurried, "within": within, "within_one_segment": one_more}
    return record | {name: each / count for name, each in counts.items()}


def _at(seconds: float, fixed: list[dict[str, Any]], quality: str) -> float:
    """A quality of fixed policies at a mean time, between the two neighbours in time (a mix of them)."""
    points = sorted((f["seconds_mean"], f[quality]) for f in fixed)
    for (t0, q0), (t1, q1) in itertools.pairwise(points):
        if t0 <= seconds <= t1:
            return float(q0 + (q1 - q0) * (seconds - t0) / (t1 - t0))
    return float(points[0][1] if seconds < points[0][0] else points[-1][1])


def measure() -> dict[str, Any]:
    """On pictures that policies are chosen on."""
    load = round(machine.load_average(), 1)
    with targets.open(bundle(1), threads=1) as captioner:
        tune, _, known = bundled_samples(captioner)
        return {"load": load} | figures(captioner, tune.at_most(200), known)


def render(record: Record) -> str:
    """What a limit at run time costs, under slow moments."""
    f = record["figures"]
    rows = [
        [
            kind,
            f"{1000 * due['limit']:.1f} ms",
            f"{1000 * due['seconds_mean']:.1f} ms",
            f"{due['within']:.1%}",
            f"{due['within_one_segment']:.1%}",
            f"{due['cut_short']:.1%}",
            *(f"{due[q]:.{d}f} / {due['fixed_same_time'][q]:.{d}f}" for q, d in DIGITS.items()),
            yes_or_no(due["holds"]),
        ]
        for kind in ("bursts", "random")
        for due in f[kind]["deadline"]
    ]
    words = (
        f"{f['captions']} pictures of {f['pictures']}; a slow decoder call takes {f['slower']:.0f} times as "
        f"long; load of the machine {f['load']}.\n\n"
    )
    head = ["slow calls", "limit", "mean time", "within the limit", "within it and one segment", "cut short"]
    head += ["CIDEr-D / of fixed policies in the same time", "exact match / of the same", "criteria hold"]
    return words + table(head, rows)
