"""Decision logs for ports: what a loop was told, and what it decided, call by call.

Such a log can be judged without the port's runtime: its scores and candidates are given to the loop of
this package, which must ask for the same segments, leave at the same places and end with the same tokens.
Standard library only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mue_edge import schema
from mue_edge.bundle.policy_files import from_json
from mue_edge.errors import InputFileError, VerificationError
from mue_edge.files import atomic_write
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import Runtime, drive
from mue_edge.loop.protocol import HEAD_PORTS, Answer, ExitDecision, Layout, Outcome, Request
from mue_edge.loop.replay import DecisionLog, decision_log
from mue_edge.loop.search import BeamSearch, SearchSettings
from mue_edge.reading import read_json

MAX_LOG_BYTES = 256 << 20
# Thresholds and scores of captions are arithmetic on a few numbers, in float64 here.
THRESHOLD_TOLERANCE = 1e-6
SCORE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Candidates:
    """What the head said of one row: ids from the best on, their log-probabilities, that of eos."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    eos: float


@dataclass(frozen=True)
class Call:
    """A segment that was run, and what the loop read of it: a value a row of score and gap, or of other
    signals' ports; or candidates a row."""

    run: str
    score: tuple[float, ...] = ()
    gap: tuple[float, ...] = ()
    candidates: tuple[Candidates, ...] = ()
    others: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class LoggedDecision:
    """One exit test, or an exit without one (a fixed depth). No threshold: no score could pass."""

    stack: str
    depth: int
    step: int
    threshold: float | None
    exit: bool


@dataclass(frozen=True)
class LogEntry:
    """One caption: the picture's number, the policy, and all that happened."""

    picture: int
    policy: dict[str, Any]
    calls: tuple[Call, ...]
    decisions: tuple[LoggedDecision, ...]
    tokens: tuple[int, ...]
    score: float


def record(
    picture: int, policy: dict[str, Any], layout: Layout, settings: SearchSettings, runtime: Runtime
) -> LogEntry:
    """The log of a caption of the picture that the runtime holds."""
    calls: list[Call] = []
    outcome = drive(
        caption_loop(layout, from_json(policy), BeamSearch(settings)),
        runtime,
        lambda request, answer: calls.append(_call(request, answer)),
    )
    best = outcome.hypotheses[0]
    return LogEntry(picture, policy, tuple(calls), _logged_decisions(outcome), best.tokens, best.score)


def _call(request: Request, answer: Answer) -> Call:
    if request.read == HEAD_PORTS:
        rows = (Candidates(tuple(ids), tuple(values), eos) for ids, values, eos in answer.candidates)
        return Call(request.run, candidates=tuple(rows))
    read = {port: tuple(values) for port, values in answer.scalars.items()}
    return Call(request.run, read.pop("score", ()), read.pop("gap", ()), others=read)


def _logged_decisions(outcome: Outcome) -> tuple[LoggedDecision, ...]:
    return tuple(_logged_decision(d) for d in outcome.decisions)


def _logged_decision(d: ExitDecision) -> LoggedDecision:
    return LoggedDecision(
        d.stack, d.depth, d.step, d.threshold if math.isfinite(d.threshold) else None, d.exit
    )


def check(entry: LogEntry, layout: Layout, settings: SearchSettings, where: str = "log") -> DecisionLog:
    """Give the loop the log's scores and candidates, and compare all that it decides.

    Returns the decisions as a log that `replay.replay` can force on a runtime, to compare the scores
    themselves. Raises VerificationError that names the first call or decision that differs.
    """
    told = _LoggedRuntime(entry, where)
    outcome = drive(caption_loop(layout, from_json(entry.policy), BeamSearch(settings)), told)
    if told.at < len(entry.calls):
        raise VerificationError(
            f"{where}: the loop ends after {told.at} calls, the log goes on with {entry.calls[told.at].run}"
        )
    wanted = _logged_decisions(outcome)
    for i, (mine, theirs) in enumerate(zip(wanted, entry.decisions)):
        if not _agree(mine, theirs):
            raise VerificationError(
                f"{where}: decision {i + 1} is {_words(theirs)}; it must be {_words(mine)}"
            )
    if len(wanted) != len(entry.decisions):
        raise VerificationError(f"{where}: {len(entry.decisions)} decisions, the loop makes {len(wanted)}")
    best = outcome.hypotheses[0]
    if best.tokens != entry.tokens or abs(best.score - entry.score) > SCORE_TOLERANCE:
        raise VerificationError(
            f"{where}: the caption is {list(entry.tokens)} with score {entry.score:.6f}; from these "
            f"candidates follows {list(best.tokens)} with {best.score:.6f}"
        )
    return decision_log(outcome)


class _LoggedRuntime:
    """Answers requests with what a log says was answered."""

    def __init__(self, entry: LogEntry, where: str) -> None:
        self.entry, self.where, self.at = entry, where, 0

    def set_pixels(self, pixels: object) -> None: ...

    def execute(self, request: Request) -> Answer:
        number, calls = self.at + 1, self.entry.calls
        if self.at >= len(calls):
            raise VerificationError(
                f"{self.where}: the loop asks for {request.run} as call {number}, the log ends"
            )
        call = calls[self.at]
        if call.run != request.run:
            raise VerificationError(
                f"{self.where}: call {number} is {call.run}, where the loop asks for {request.run}"
            )
        self.at = number
        if request.read == HEAD_PORTS:
            self._wanted(call.candidates, request, "candidates")
            return Answer(candidates=[(c.ids, c.logprobs, c.eos) for c in call.candidates])
        found = {"score": call.score, "gap": call.gap, **call.others}
        for port in request.read:
            self._wanted(found.get(port, ()), request, port)
        return Answer({port: found[port] for port in request.read})

    def _wanted(self, values: Sequence[object], request: Request, what: str) -> None:
        if not values:
            raise VerificationError(
                f"{self.where}: call {self.at} ({request.run}) lacks its {what}, which the loop reads"
            )

    def close(self) -> None: ...


def _agree(a: LoggedDecision, b: LoggedDecision) -> bool:
    if (a.stack, a.depth, a.step, a.exit) != (b.stack, b.depth, b.step, b.exit):
        return False
    if a.threshold is None or b.threshold is None:
        return a.threshold == b.threshold
    return abs(a.threshold - b.threshold) <= THRESHOLD_TOLERANCE


def _words(v: LoggedDecision) -> str:
    what = "leave" if v.exit else "go on"
    return f"{v.stack} after layer {v.depth}, step {v.step}, threshold {v.threshold}: {what}"


def write(path: Path, entries: Sequence[LogEntry], plan_hash: str) -> None:
    """Logs of a bundle with that plan, as JSON."""
    data: Mapping[str, Any] = {"plan": plan_hash, "logs": [schema.encode(entry) for entry in entries]}
    atomic_write(path, json.dumps(data) + "\n")


@dataclass(frozen=True)
class _File:
    plan: str
    logs: tuple[LogEntry, ...]


def read(path: Path, plan_hash: str) -> tuple[LogEntry, ...]:
    """The logs of a file. Raises InputFileError for one that is none, or of another plan."""
    found = schema.decode(_File, read_json(path, MAX_LOG_BYTES), path.name)
    if found.plan != plan_hash:
        raise InputFileError(f"{path} is of plan {found.plan}, the bundle has {plan_hash}")
    return found.logs
