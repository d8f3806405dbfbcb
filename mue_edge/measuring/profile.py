"""What every segment costs on a device: measured there, or estimated from published figures.

A caption's time is T = fixed + Σ (median of its segment + the loop's own time a call), in whatever
order an exit policy runs segments, times a noise factor that all calls of a caption share. Its 95th
percentile is T × the factor's: never the sum of the segments' own 95th percentiles, which supposes
that all calls are slow at once. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mue_edge import machine, schema
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Manifest
from mue_edge.errors import InputFileError, UsageError, command_line
from mue_edge.files import atomic_write
from mue_edge.loop.protocol import Answer, Request
from mue_edge.reading import read_json

SCHEMA = 1
MEASURED, ESTIMATE = "measured", "estimate"
# A single caption that is off by more says that the machine, not the bundle, was measured.
RESTLESS = 0.15
WALL, CPU = "wall", "cpu"
MAX_BYTES = 16 << 20
_COMMAND = "mue-edge profile BUNDLE"


@dataclass(frozen=True)
class SegmentTime:
    """Seconds of one call: median, 95th percentile, interquartile range; calls timed."""

    median: float
    p95: float
    spread: float
    calls: int


@dataclass(frozen=True)
class Noise:
    """Quantiles of live / predicted seconds over captions."""

    p50: float
    p95: float


@dataclass(frozen=True)
class ProfileCheck:
    """Medians over so many captions of one kind: seconds predicted (noise included) and live."""

    captions: int
    predicted: float
    live: float


@dataclass(frozen=True)
class Profile:
    """`profile.json`.

    kind: "measured", or "estimate", which has no noise and no error, since nothing ran. clock: "wall";
    or "cpu", the process's CPU time on one thread: what it would take on an idle machine. device: the
    machine's own name, or the row that was estimated from. threads: 0 where the runtime has no such
    choice. loop_seconds_per_call: what the host loop adds to every call. caption_seconds: once a caption
    (handing over the picture, beginning, ending).
    preprocess_seconds: reading and resizing a picture, which is not in predictions; None if no picture
    was read. error: median relative error on live captions that took no part in the fit; checks:
    the same captions by kind. macs: of all segments. load: load average before and after.
    fused: of segments that run in the place of several, and of these only; none in an estimate.
    chosen: what is best there, by `verify --device`: "waits", "unit.STACK", "plan.STACK".
    """

    schema: int
    kind: str
    bundle: str
    target: str
    precision: str
    plan_hash: str
    macs: int
    device: str
    runtime: str
    threads: int
    date: str
    segments: Mapping[str, SegmentTime]
    loop_seconds_per_call: float = 0.0
    caption_seconds: float = 0.0
    preprocess_seconds: float | None = None
    noise: Noise | None = None
    error: float | None = None
    clock: str = WALL
    checks: Mapping[str, ProfileCheck] = field(default_factory=dict)
    clocks: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    load: tuple[float, ...] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)
    fused: Mapping[str, SegmentTime] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What to print beside every figure that comes from here."""
        if self.kind == ESTIMATE:
            return f"estimate for {self.device} ({self.runtime}); replace it there: {_COMMAND}"
        time = "" if self.clock == WALL else ", CPU time"
        return f"measured on {self.device}, threads {self.threads}{time}"

    def call_seconds(self, segment: str) -> float:
        """Predicted seconds of one call. Raises UsageError for a segment that was not measured."""
        if segment not in self.segments:
            raise UsageError(f"the profile knows no segment {segment!r}; make one of this bundle: {_COMMAND}")
        return self.segments[segment].median + self.loop_seconds_per_call

    def predict(self, requests: Iterable[str]) -> float:
        """Seconds of a caption that runs these segments: fixed + Σ call_seconds, without noise."""
        return self.caption_seconds + sum(map(self.call_seconds, requests))

    def check_fits(self, bundle: Bundle, threads: int | None = None) -> None:
        """Raises UsageError when this is the profile of something else than `bundle` run with `threads`."""
        m = bundle.manifest
        pairs: list[tuple[str, object, object]] = []
        if self.kind == MEASURED:  # an estimate is made for another device, often in another precision
            pairs += [("target", self.target, m.target), ("precision", self.precision, m.precision)]
        pairs += [("plan", self.plan_hash, m.plan_hash), ("macs", self.macs, total_macs(m))]
        if self.kind == MEASURED and threads is not None and self.threads:
            pairs.append(("threads", self.threads, threads))
        problems = [f"{name} {own}, not {other}" for name, own, other in pairs if own != other]
        problems += [f"no segment {name}" for name in m.segments if name not in self.segments]
        if self.kind == MEASURED:
            problems += [f"no segment {name}" for name in m.fused if name not in self.fused]
        if problems:
            options = () if threads is None else ("--threads", threads)
            raise UsageError(
                f"the profile does not fit {bundle.path} ({'; '.join(problems[:3])}); make a new one with: "
                + command_line("profile", bundle.path, *options)
            )


def total_macs(manifest: Manifest) -> int:
    """Multiply-adds of each segment once: with the plan, what tells one model's bundle from another's."""
    return sum(segment.macs for segment in manifest.segments.values())


def blank(manifest: Manifest, **fields: Any) -> Profile:
    """Of a bundle, made now; fields: the device's, and those that differ from the bundle's."""
    own = {name: getattr(manifest, name) for name in ("target", "precision", "plan_hash")}
    own |= {"schema": SCHEMA, "bundle": manifest.name, "macs": total_macs(manifest), "segments": {}}
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Profile(**{**own, "date": date, **fields})


class SegmentMeter:
    """A watcher that adds up the predicted seconds of a caption, request by request."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self.seconds = profile.caption_seconds

    def __call__(self, request: Request, answer: Answer) -> None:
        self.seconds += self._profile.call_seconds(request.run)


def path_of(bundle: Path) -> Path:
    """A bundle's own profile: beside its folder, which holds what its manifest lists."""
    folder = bundle.absolute()
    return folder.with_name(f"{folder.name}.profile.json")


def chosen_of(bundle: Bundle) -> Mapping[str, str]:
    """What the bundle's own profile says is best, if it was measured on this machine."""
    path, m = path_of(bundle.path), bundle.manifest
    if not path.is_file():
        return {}
    p = read(path)
    own, there = (m.plan_hash, m.target, m.precision), (p.plan_hash, p.target, p.precision)
    return p.chosen if own == there and p.device == machine.device() else {}


def write(path: str | Path, profile: Profile) -> None:
    """As JSON, whole or not at all."""
    atomic_write(path, json.dumps(schema.encode(profile), indent=1) + "\n")


def read(path: str | Path) -> Profile:
    """Raises InputFileError for a file that is no profile, or one that contradicts itself."""
    try:
        data = read_json(path, MAX_BYTES)
    except InputFileError as problem:
        raise InputFileError(f"no profile: {problem}; make one with: {_COMMAND}") from problem
    version = data.get("schema") if isinstance(data, dict) else None
    if version != SCHEMA or isinstance(version, bool):
        raise InputFileError(f"{path} has schema {version!r}; this mue-edge reads {SCHEMA}. Make it again: {_COMMAND}")
    profile = schema.decode(Profile, data, str(path))
    _check(profile, path)
    return profile


def _check(p: Profile, path: str | Path) -> None:
    timed = [*p.segments.values(), *p.fused.values()]
    times = [t for s in timed for t in (s.median, s.p95, s.spread, float(s.calls))]
    times += [p.loop_seconds_per_call, p.caption_seconds, p.preprocess_seconds or 0.0, p.error or 0.0]
    noisy = p.noise is not None and p.error is not None
    problems = {
        f"kind {p.kind!r} is neither {MEASURED!r} nor {ESTIMATE!r}": p.kind not in (MEASURED, ESTIMATE),
        f"clock {p.clock!r} is neither {WALL!r} nor {CPU!r}": p.clock not in (WALL, CPU),
        "a time is negative": min(times) < 0,
        "a segment's 95th percentile is below its median": any(s.p95 < s.median for s in timed),
        f"noise and error belong to every {MEASURED!r} profile and to no {ESTIMATE!r}": (noisy != (p.kind == MEASURED)),
        "the noise's quantiles are not in order": p.noise and not 0 < p.noise.p50 <= p.noise.p95,
    }
    for problem, applies in problems.items():
        if applies:
            raise InputFileError(f"{path}: {problem}; make it again: {_COMMAND}")
