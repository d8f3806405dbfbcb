"""Decision logs: what a run decided, as JSON, and how a replay of it differs.

A log separates numerical error from diverging decisions: replayed with its exits forced, another
runtime must give the same scores up to rounding and the same tokens. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import Runtime, Watcher, drive
from mue_edge.loop.policy import ExitPolicy, ForcedExits, Policy, StackExit
from mue_edge.loop.protocol import ExitDecision, Layout, Outcome
from mue_edge.loop.search import SearchSettings, new_search
from mue_edge.loop.signals import SIGNALS, SIMILARITY


@dataclass(frozen=True)
class ScoreEntry:
    """The scores of one exit test, a value a live row, or only the lowest, which decides."""

    stack: str
    depth: int
    step: int
    scores: tuple[float, ...]
    signal: str = SIMILARITY


@dataclass(frozen=True)
class DecisionLog:
    """One caption's decisions: layers run by each stack, by each decoder step, tokens, scores."""

    depths: Mapping[str, int]
    decoder: tuple[int, ...]
    tokens: tuple[int, ...]
    score: float
    scores: tuple[ScoreEntry, ...]


@dataclass(frozen=True)
class Difference:
    """Of a replay: whether its tokens equal the log's, and the error of each test's lowest score."""

    same_tokens: bool
    score_errors: tuple[float, ...]


def run(
    layout: Layout,
    settings: SearchSettings,
    policy: ExitPolicy,
    runtime: Runtime,
    *,
    trace: bool = False,
    heads: bool = False,
    source: Sequence[int] = (),
    watch: Watcher | None = None,
) -> Outcome:
    """One caption of the picture that the runtime holds, or one answer to the text `source` that it holds."""
    search = new_search(settings, source)
    return drive(caption_loop(layout, policy, search, trace=trace, heads=heads), runtime, watch)


def decision_log(outcome: Outcome) -> DecisionLog:
    """The log of a run; a traced run has the scores of every signal at every boundary that it reached."""
    best, entries = outcome.hypotheses[0], list[ScoreEntry]()
    for d in outcome.decisions:
        scores = {name: values for name, (values, _) in d.readings.items()} or {SIMILARITY: d.scores}
        entries += [ScoreEntry(d.stack, d.depth, d.step, s, name) for name, s in scores.items() if s]
    decoder = tuple(step.depth for step in outcome.steps)
    return DecisionLog(dict(outcome.depths), decoder, best.tokens, best.score, tuple(entries))


def replay(
    log: DecisionLog,
    layout: Layout,
    settings: SearchSettings,
    runtime: Runtime,
    policy: Policy | None = None,
    source: Sequence[int] = (),
) -> Difference:
    """Run the exits of a log (of that policy, if it did not run every segment), whatever the scores are, and
    compare. A differing token ends the search elsewhere, so that scores after it are not compared."""
    forced = ForcedExits(log.depths, log.decoder, policy)
    heads = any(SIGNALS[entry.signal].from_head for entry in log.scores)
    outcome = run(layout, settings, forced, runtime, trace=True, heads=heads, source=source)
    return compare(log, decision_log(outcome))


def compare(log: DecisionLog, again: DecisionLog) -> Difference:
    """How the log of another run, with the same exits, differs."""
    scores = {(e.stack, e.depth, e.step, e.signal): e.scores for e in again.scores}
    errors = []
    for entry in log.scores:
        replayed = scores.get((entry.stack, entry.depth, entry.step, entry.signal))
        if replayed:
            errors.append(abs(min(entry.scores) - min(replayed)))
    return Difference(again.tokens == log.tokens, tuple(errors))


def quantile_policy(tests: Iterable[tuple[str, float]], quantile: float, name: str, plan: str | None = None) -> Policy:
    """A constant threshold a stack, which `quantile` of the given exit tests (stack, distance) would pass.

    Nothing is known of the captions' quality under it: it serves tests and first measurements.
    """
    distances: dict[str, list[float]] = {}
    for stack, distance in tests:
        distances.setdefault(stack, []).append(distance)
    theta = {stack: 1 - midpoint_quantile(values, quantile) for stack, values in distances.items()}
    exits = {stack: StackExit(value) for stack, value in theta.items() if value < 1}
    return Policy("mue", exits, beta=1.0, name=name, plan=plan)


def exit_distances(decisions: Iterable[ExitDecision]) -> list[tuple[str, float]]:
    """(stack, distance of the row that is furthest from exiting) of every test of a traced run."""
    return [(d.stack, max(d.distances)) for d in decisions if d.distances]


def midpoint_quantile(values: Iterable[float], quantile: float) -> float:
    """The quantile, half way between two neighbours, so that rounding decides no test."""
    values = sorted(values)
    upper = min(len(values) - 1, max(1, round(quantile * len(values))))
    return (values[upper - 1] + values[upper]) / 2 if len(values) > 1 else values[0]
