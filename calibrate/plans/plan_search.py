"""Searches plans (image size, precision, boundaries) for the front of quality against time.

Every trial is a plan with its own policies, since thresholds do not carry over: exported, profiled (side by
side with the reference, see `yardstick`), and judged on a part of *tune*. What wins here is calibrated and
certified like any other plan, on all pictures. Plans are kept in folders below `workdir`, by their content;
a search that was killed goes on with them.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mue_edge import models, targets
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics.cider import Frequencies
from mue_edge.calibrate.plans.plan_space import (
    FINE,
    PAIRS,
    PLANNED,
    PlanChoice,
    Space,
    around,
    ends,
    proposed,
)
from mue_edge.calibrate.plans.plan_trial import (
    Bench,
    Judge,
    MeasuredPlan,
    PlanPoint,
    Reference,
    policy_within,
)
from mue_edge.calibrate.traces.live import Progress
from mue_edge.durations import Span
from mue_edge.errors import InputFileError, UsageError
from mue_edge.files import atomic_write, sha256

SCHEMA, HEADER = 1, "search.json"
# Of full depth's quality: what boundaries are planned for where no budget says it.
KEPT = 0.97


@dataclass(frozen=True)
class Trial:
    """A plan that was tried, in its order: options for `export`, its folder, what was found."""

    number: int
    choice: PlanChoice
    options: Mapping[str, Any]
    place: Path
    measured: MeasuredPlan


@dataclass(frozen=True)
class Found:
    """A policy on the front of all plans."""

    trial: Trial
    point: PlanPoint


@dataclass(frozen=True)
class PlanSearch:
    """`front`: from fastest to best. `reference`: the model's own size in the target's first precision, a
    segment a layer. `budget` in seconds; one that was given as a share is of the reference's full depth."""

    trials: tuple[Trial, ...]
    front: tuple[Found, ...]
    reference: MeasuredPlan
    budget: float | None

    @property
    def best(self) -> Found | None:
        """The best quality within the budget (any, without one); None if nothing is fast enough."""
        fitting = [f for f in self.front if self.budget is None or f.point.tail <= self.budget]
        return max(fitting, key=lambda f: (f.point.quality, -f.point.seconds), default=None)


def search_plans(
    model_folder: str | Path, target: str, tune: Samples, known: Frequencies | None, budget: Span | None, *,
    trials: int, seed: int, workdir: str | Path, clock: str, progress: Progress, subset: int,
    space: Space | None = None, workers: int = 1, judge: Judge | None = None,
) -> PlanSearch:  # fmt: skip
    """Try `trials` plans on `subset` pictures of *tune*. `space` if it is not `plan_space.around` the model.

    A plan that the model or the target cannot have counts as a trial, with its problem. Raises UsageError for
    a `workdir` of another search, and where even the reference cannot be had.
    """
    folder, place = Path(model_folder), Path(workdir)
    if trials < 1 or subset < 1:
        raise UsageError(f"a search needs a trial and a picture, not {trials} and {subset}")
    part = drawn(tune, subset, seed)
    _claim(place, folder, target, part, known, clock)
    judge = judge or Bench(folder, target, part, known, progress, clock, workers=workers)
    if space is None:
        size = models.describe_folder(folder).preprocess
        space = around((size.height, size.width), targets.target(target).precisions)
    plans = _Plans(judge, place, budget, space.choices[0])
    made: list[Trial] = []
    tried: list[tuple[PlanChoice, float]] = []
    with progress("plans", min(trials, len(space.choices))) as step:
        while (choice := proposed(space, tried, trials, seed)) is not None:
            options = plans.options(choice)
            made.append(Trial(len(made), choice, options, plans.place(options), plans.measured(options)))
            tried.append((choice, worth(made[-1].measured, plans.budget, plans.reference.full.seconds)))
            step()
    return PlanSearch(tuple(made), front(made), plans.reference, plans.budget)


def drawn(tune: Samples, subset: int, seed: int) -> Samples:
    """So many pictures, at random, in their order; all, if there are no more."""
    if subset >= len(tune):
        return tune
    rows = sorted(random.Random(seed).sample(range(len(tune)), subset))
    return tune.rows(rows, f"{tune.source} ({subset} of {len(tune)})")


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


def front(trials: Sequence[Trial]) -> tuple[Found, ...]:
    """Policies of any plan that no faster one equals in quality, from fastest to best."""
    found = [Found(trial, point) for trial in trials for point in trial.measured.points]
    kept: list[Found] = []
    for one in sorted(found, key=lambda f: (f.point.seconds, -f.point.quality, f.trial.number)):
        if not kept or one.point.quality > kept[-1].point.quality:
            kept.append(one)
    return tuple(kept)


class _Plans:
    """Choices as plans, measured at most once each."""

    def __init__(self, judge: Judge, workdir: Path, budget: Span | None, first: PlanChoice) -> None:
        self._judge, self._workdir, self._depths = judge, workdir, judge.depths()
        self._known: dict[Path, MeasuredPlan] = {}
        options = self.options(PlanChoice(first.size, first.precision, FINE))
        self.reference = self._measure(options, None)
        if self.reference.problem:
            raise UsageError(f"the plan to compare others with cannot be had: {self.reference.problem}")
        self._compared = Reference(self.place(options), self.reference.captions)
        self.budget = None if budget is None else budget.of(self.reference.full.tail)

    def options(self, choice: PlanChoice) -> dict[str, Any]:
        """For `export`. Planned boundaries need the measured plans with a segment a layer and two layers."""
        common = {"height": choice.size[0], "width": choice.size[1], "precision": choice.precision}
        if choice.cut != PLANNED:
            return common | {"ends": ends(choice.cut, self._depths)}
        fine, coarse = (common | {"ends": ends(cut, self._depths)} for cut in (FINE, PAIRS))
        one, other = self.measured(fine), self.measured(coarse)
        if one.problem or other.problem:
            return fine
        policy = policy_within(one, self.budget, KEPT)
        planned = self._judge.propose(self.place(fine), self.place(coarse), policy)
        return common | {"ends": ends(FINE, self._depths) | {k: list(v) for k, v in planned.items()}}

    def measured(self, options: Mapping[str, Any]) -> MeasuredPlan:
        return self._measure(options, self._compared)

    def place(self, options: Mapping[str, Any]) -> Path:
        """A plan's folder: readable, and its own."""
        digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]
        return self._workdir / f"{options['height']}x{options['width']}-{options['precision']}-{digest}"

    def _measure(self, options: Mapping[str, Any], reference: Reference | None) -> MeasuredPlan:
        place = self.place(options)
        if place not in self._known:
            self._known[place] = self._judge.measure(options, place, reference)
        return self._known[place]


def _claim(
    place: Path, model: Path, target: str, part: Samples, known: Frequencies | None, clock: str
) -> None:
    """Leave a header that refuses other searches: results only compare within one."""
    said = {
        "schema": SCHEMA, "model": sha256(model / "model.safetensors"), "target": target,
        "pictures": part.fingerprint(), "frequencies": known.fingerprint() if known else "", "clock": clock,
    }  # fmt: skip
    header = place / HEADER
    if header.is_file():
        try:
            found = json.loads(header.read_text(encoding="utf-8"))
        except ValueError as problem:
            raise InputFileError(f"{header} is not JSON: {problem}; remove {place}") from problem
        if found != said:
            off = [key for key in said if not isinstance(found, dict) or found.get(key) != said[key]]
            raise UsageError(
                f"{place} holds a search with another {', '.join(off)}; give another folder, or remove it"
            )
        return
    if place.is_dir() and any(not path.name.startswith(".") for path in place.iterdir()):
        raise UsageError(f"{place} is there and holds no search of plans; give another folder")
    place.mkdir(parents=True, exist_ok=True)
    atomic_write(header, json.dumps(said, indent=1) + "\n")
