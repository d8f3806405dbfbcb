"""Searches plans (image size, precision, boundaries) for the Pareto front of quality against time.

Every trial is a plan with its own policies, since thresholds do not carry over: exported, profiled (side by
side with the reference, see `times.level`), and judged on a part of *tune*. What wins here is calibrated and
certified like any other plan, on all pictures. Plans are kept in folders below `workdir`, by their content;
a search that was killed goes on with them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mue_edge.calibrate.plans.plan_space import FINE, PAIRS, PLANNED, PlanChoice, Space, ends, proposed
from mue_edge.calibrate.plans.plan_trial import Bench, MeasuredPlan, PlanPoint, Reference, policy_within
from mue_edge.calibrate.traces.tracing import Progress
from mue_edge.durations import Span
from mue_edge.errors import InputFileError, UsageError
from mue_edge.files import atomic_write

SCHEMA, HEADER = 1, "search.json"
# Of full depth's quality: what boundaries are planned for where no budget says it.
KEPT = 0.97


@dataclass(frozen=True)
class Trial:
    """A plan that was tried, in its order: options for `export`, its folder, and its measurements."""

    number: int
    choice: PlanChoice
    options: Mapping[str, Any]
    folder: Path
    measured: MeasuredPlan


@dataclass(frozen=True)
class TriedPolicy:
    """A policy on the Pareto front of all plans."""

    trial: Trial
    point: PlanPoint


@dataclass(frozen=True)
class PlanSearch:
    """`front`: from fastest to best. `reference`: the model's own size in the target's first precision, a
    segment a layer. `budget` in seconds; one that was given as a share is of the reference's full depth."""

    trials: tuple[Trial, ...]
    front: tuple[TriedPolicy, ...]
    reference: MeasuredPlan
    budget: float | None

    @property
    def best(self) -> TriedPolicy | None:
        """The best quality within the budget (any, without one); None if nothing is fast enough."""
        fitting = [t for t in self.front if self.budget is None or t.point.tail <= self.budget]
        return max(fitting, key=lambda t: (t.point.quality, -t.point.seconds), default=None)


def search_plans(
    bench: Bench, space: Space, budget: Span | None, workdir: Path, progress: Progress, trials: int, seed: int
) -> PlanSearch:
    """Try `trials` plans of a space in folders of `workdir`.

    A plan that the model or the target cannot have counts as a trial, with its problem. Raises UsageError for
    a `workdir` of another search, and where even the reference cannot be had.
    """
    if trials < 1:
        raise UsageError(f"a search needs a trial, not {trials}")
    _claim(workdir, {"schema": SCHEMA, **bench.identity})
    plans = _Plans(bench, workdir, budget, space.choices[0])
    done: list[Trial] = []
    tried: list[tuple[PlanChoice, float]] = []
    with progress("plans", min(trials, len(space.choices))) as step:
        while (choice := proposed(space, tried, trials, seed)) is not None:
            options = plans.options(choice)
            done.append(Trial(len(done), choice, options, plans.folder(options), plans.measured(options)))
            tried.append((choice, worth(done[-1].measured, plans.budget, plans.reference.full.seconds)))
            step()
    return PlanSearch(tuple(done), pareto_front(done), plans.reference, plans.budget)


def worth(measured: MeasuredPlan, budget: float | None, top: float) -> float:
    """What a plan is worth: the best quality within the budget, or, below 0, how far it misses it.

    Without a budget the mean quality over all budgets from 0 to `top` seconds (0 where nothing is fast
    enough). −1 for a plan that cannot be had.
    """
    if measured.problem:
        return -1.0
    if budget is not None:
        fitting = [p.quality for p in measured.points if p.tail <= budget]
        least = min(p.tail for p in measured.points)
        return max(fitting) if fitting else max(-1.0, 1 - least / budget)
    area, best, last = 0.0, 0.0, 0.0
    for point in sorted(measured.points, key=lambda p: p.seconds):
        now = min(point.seconds, top)
        area, last = area + (now - last) * best, now
        best = max(best, point.quality)
    return (area + (top - last) * best) / top


def pareto_front(trials: Sequence[Trial]) -> tuple[TriedPolicy, ...]:
    """Policies of any plan that no faster one equals in quality, from fastest to best."""
    policies = [TriedPolicy(trial, point) for trial in trials for point in trial.measured.points]
    front: list[TriedPolicy] = []
    for one in sorted(policies, key=lambda p: (p.point.seconds, -p.point.quality, p.trial.number)):
        if not front or one.point.quality > front[-1].point.quality:
            front.append(one)
    return tuple(front)


class _Plans:
    """Choices as plans, measured at most once each."""

    def __init__(self, bench: Bench, workdir: Path, budget: Span | None, first: PlanChoice) -> None:
        self._bench, self._workdir = bench, workdir
        self._measured: dict[Path, MeasuredPlan] = {}
        self._reference: Reference | None = None
        options = self.options(PlanChoice(first.size, first.precision, FINE))
        self.reference = self.measured(options)
        if self.reference.problem:
            raise UsageError(f"the plan to compare others with cannot be had: {self.reference.problem}")
        self._reference = Reference(self.folder(options), self.reference.captions)
        self.budget = None if budget is None else budget.of(self.reference.full.tail)

    def options(self, choice: PlanChoice) -> dict[str, Any]:
        """For `export`. Planned boundaries need the measured plans with a segment a layer and two layers."""
        common = {"height": choice.size[0], "width": choice.size[1], "precision": choice.precision}
        if choice.cut != PLANNED:
            return common | {"ends": ends(choice.cut, self._bench.depths)}
        fine, coarse = (common | {"ends": ends(cut, self._bench.depths)} for cut in (FINE, PAIRS))
        one, other = self.measured(fine), self.measured(coarse)
        if one.problem or other.problem:
            return fine
        policy = policy_within(one, self.budget, KEPT)
        planned = self._bench.propose(self.folder(fine), self.folder(coarse), policy)
        return common | {"ends": {**ends(FINE, self._bench.depths), **{k: list(v) for k, v in planned.items()}}}

    def measured(self, options: Mapping[str, Any]) -> MeasuredPlan:
        """Of the plan with these options for `export`."""
        folder = self.folder(options)
        if folder not in self._measured:
            self._measured[folder] = self._bench.measure(options, folder, self._reference)
        return self._measured[folder]

    def folder(self, options: Mapping[str, Any]) -> Path:
        """A plan's own, with a name to read."""
        digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]
        return self._workdir / f"{options['height']}x{options['width']}-{options['precision']}-{digest}"


def _claim(folder: Path, own: Mapping[str, Any]) -> None:
    """Write a header that refuses other searches: results only compare within one."""
    header = folder / HEADER
    if header.is_file():
        try:
            before = json.loads(header.read_text(encoding="utf-8"))
        except ValueError as problem:
            raise InputFileError(f"{header} is not JSON: {problem}; remove {folder}") from problem
        if before != own:
            changed = [key for key in own if not isinstance(before, dict) or before.get(key) != own[key]]
            raise UsageError(
                f"{folder} holds a search with another {', '.join(changed)}; give another folder, or remove it"
            )
        return
    if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise UsageError(f"{folder} is there and holds no search of plans; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(header, json.dumps(own, indent=1) + "\n")
