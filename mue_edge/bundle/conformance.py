"""Decision logs for ports: what a loop read, and what it decided, call by call.

Such a log can be judged without the port's runtime: its scores and candidates are given to the loop of
this package, which must run the same segments, exit at the same places and end with the same tokens.
Standard library only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mue_edge import schema
from mue_edge.bundle.policy_files import from_json
from mue_edge.errors import InputFileError, VerificationError
from mue_edge.files import atomic_write
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import Runtime, drive
from mue_edge.loop.protocol import HEAD_PORTS, Answer, Layout, Outcome, Request
from mue_edge.loop.replay import DecisionLog, decision_log
from mue_edge.loop.search import BeamSearch, SearchSettings
from mue_edge.reading import read_json

MAX_LOG_BYTES = 256 << 20
# Thresholds and scores of captions are arithmetic on a few numbers, in float64 here.
THRESHOLD_TOLERANCE = 1e-6
SCORE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Candidates:
    """The head's candidates of one row: ids from the best on, their log-probabilities, that of eos."""

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
    loop = caption_loop(layout, from_json(policy), BeamSearch(settings))
    outcome = drive(loop, runtime, lambda request, answer: calls.append(_call(request, answer)))
    best = outcome.hypotheses[0]
    return LogEntry(picture, policy, tuple(calls), _logged_decisions(outcome), best.tokens, best.score)


def _call(request: Request, answer: Answer) -> Call:
    if request.read == HEAD_PORTS:
        rows = (Candidates(tuple(ids), tuple(values), eos) for ids, values, eos in answer.candidates)
        return Call(request.run, candidates=tuple(rows))
    read = {port: tuple(values) for port, values in answer.scalars.items()}
    return Call(request.run, read.pop("score", ()), read.pop("gap", ()), others=read)


def _logged_decisions(outcome: Outcome) -> tuple[LoggedDecision, ...]:
    return tuple(
        LoggedDecision(d.stack, d.depth, d.step, d.threshold if math.isfinite(d.threshold) else None, d.exit)
        for d in outcome.decisions
    )


def check(entry: LogEntry, layout: Layout, settings: SearchSettings, where: str = "log") -> DecisionLog:
    """Give the loop the log's scores and candidates, and compare all that it decides.

    Returns the decisions as a log that `replay.replay` can force on a runtime, to compare the scores
    themselves. Raises VerificationError that names the first call or decision that differs.
    """
    runtime = _LoggedRuntime(entry, where)
    outcome = drive(caption_loop(layout, from_json(entry.policy), BeamSearch(settings)), runtime)
    if runtime.made < len(entry.calls):
        raise VerificationError(
            f"{where}: the loop ends after {runtime.made} calls, the log goes on with " + entry.calls[runtime.made].run
        )
    decisions = _logged_decisions(outcome)
    for i, (mine, theirs) in enumerate(zip(decisions, entry.decisions)):
        if not _agree(mine, theirs):
            raise VerificationError(f"{where}: decision {i + 1} is {_text(theirs)}; it must be {_text(mine)}")
    if len(decisions) != len(entry.decisions):
        raise VerificationError(f"{where}: {len(entry.decisions)} decisions, the loop makes {len(decisions)}")
    best = outcome.hypotheses[0]
    if best.tokens != entry.tokens or abs(best.score - entry.score) > SCORE_TOLERANCE:
        raise VerificationError(
            f"{where}: the caption is {list(entry.tokens)} with score {entry.score:.6f}; from these "
            f"candidates follows {list(best.tokens)} with {best.score:.6f}"
        )
    return decision_log(outcome)


class _LoggedRuntime:
    """Answers requests with what a log says was answered; `made`: calls so far."""

    def __init__(self, entry: LogEntry, where: str) -> None:
        self.calls, self.where, self.made = entry.calls, where, 0

    def set_pixels(self, pixels: object) -> None: ...

    def execute(self, request: Request) -> Answer:
        number = self.made + 1
        if self.made == len(self.calls):
            raise VerificationError(f"{self.where}: the loop asks for {request.run} as call {number}, the log ends")
        call, self.made = self.calls[self.made], number
        if call.run != request.run:
            raise VerificationError(f"{self.where}: call {number} is {call.run}, where the loop asks for {request.run}")
        values: dict[str, Sequence[Any]] = {"score": call.score, "gap": call.gap, **call.others}
        ports = request.read
        if ports == HEAD_PORTS:
            values, ports = {"candidates": call.candidates}, ("candidates",)
        for port in ports:
            if not values.get(port):
                raise VerificationError(
                    f"{self.where}: call {number} ({request.run}) lacks its {port}, which the loop reads"
                )
        if request.read == HEAD_PORTS:
            return Answer(candidates=[(c.ids, c.logprobs, c.eos) for c in call.candidates])
        return Answer({port: values[port] for port in ports})

    def close(self) -> None: ...


def _agree(a: LoggedDecision, b: LoggedDecision) -> bool:
    x, y = (math.inf if d.threshold is None else d.threshold for d in (a, b))
    return replace(a, threshold=b.threshold) == b and (x == y or abs(x - y) <= THRESHOLD_TOLERANCE)


def _text(d: LoggedDecision) -> str:
    verdict = "leave" if d.exit else "go on"
    return f"{d.stack} after layer {d.depth}, step {d.step}, threshold {d.threshold}: {verdict}"


@dataclass(frozen=True)
class _LogFile:
    plan: str
    logs: tuple[LogEntry, ...]


def write(path: Path, entries: Sequence[LogEntry], plan_hash: str) -> None:
    """Logs of a bundle with that plan, as JSON."""
    atomic_write(path, json.dumps(schema.encode(_LogFile(plan_hash, tuple(entries)))) + "\n")


def read(path: Path, plan_hash: str) -> tuple[LogEntry, ...]:
    """The logs of a file. Raises InputFileError for one that is none, or of another plan."""
    file = schema.decode(_LogFile, read_json(path, MAX_LOG_BYTES), path.name)
    if file.plan != plan_hash:
        raise InputFileError(f"{path} is of plan {file.plan}, the bundle has {plan_hash}")
    return file.logs
