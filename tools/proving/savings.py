"""What is kept of quality at −30 … −70 % of full depth's time: by exits alone in one plan, and by exits with
image size and precision.

Exits alone are chosen on val_render and cal_render, plans with their exits on val_render, by predicted mean
CPU time. They are judged on test_render and test_comp, which had no part in it: CIDEr-D with frozen document
frequencies, as a change against full depth with a bootstrap interval by cluster, and CPU times of captions
that take turns with full depth's.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mue_edge import models, targets
from mue_edge.apps.cli.terminal import progress
from mue_edge.calibrate.plans.plan_search import search_plans
from mue_edge.calibrate.plans.plan_space import FINE, PATCH, Space
from mue_edge.calibrate.plans.plan_trial import BUNDLE, Bench
from mue_edge.calibrate.policies import halving, savings
from mue_edge.calibrate.policies.predicted_times import expected_noise
from mue_edge.measuring import profile
from mue_edge.rules import RULES
from proving.savings_data import data, opened, spoken
from proving.savings_shown import Choice, chosen, shown

# Plans are compared on so many tuning pictures; so many of them are judged with every candidate.
SUBSET, MOST_PLANS = 150, 1
# Of full depth's quality: what a smaller size or a coarser precision may cost to serve as the base.
AS_GOOD = 0.99
TIMED = 150  # pictures whose captions are timed, each under every policy


def exits_alone(place: Path, kept: Path, limit: int | None = None) -> dict[str, Any]:
    """One plan: what exits do, against that plan's full depth."""
    known = data(spoken(place), limit, both=True)
    evaluator = opened(place, kept, known)
    found = halving.evaluated_candidates(evaluator, known.tune, evaluator.decisions(known.tune), RULES)
    full = Choice(0.0, "full", evaluator, found[0], found[0].mean_seconds)
    figures = shown(known, chosen([(evaluator, found, 1.0)], full.seconds), full, TIMED)
    duels = savings.duels(found)
    figures["against_fixed_depths"] = [
        {
            "fixed": d.fixed.policy.name,
            "kept": round(d.fixed.quality / found[0].quality, 4),
            "exits": d.rival.policy.name if d.rival else None,
            "time_ratio": None if d.ratio is None else round(d.ratio, 4),
            "won": d.won,
        }
        for d in duels
    ]
    return figures | {"candidates": len(found)}


def exits_and_plans(model: Path, workdir: Path, limit: int | None = None) -> dict[str, Any]:
    """Exits with image size, precision and cuts, against full depth at the fastest plan of those tried that
    keeps AS_GOOD of the best full depth's quality."""
    known = data(spoken(model), limit)
    size, precisions = models.describe_folder(model).preprocess.height, targets.target("host").precisions
    space = Space(((size, size), (size - PATCH, size - PATCH)), precisions, (FINE,), (size, size))
    bench = Bench(model, "host", known.tune.at_most(SUBSET), known.known, progress, profile.CPU, workers=2)
    found = search_plans(bench, space, None, workdir, progress, trials=len(space.choices), seed=0)
    made = [trial for trial in found.trials if not trial.measured.problem]
    top = max(trial.measured.full.quality for trial in made)
    able = [trial for trial in made if trial.measured.full.quality >= AS_GOOD * top]
    base_trial = min(able, key=lambda trial: trial.measured.full.seconds)
    least = (1 - max(savings.SHARES)) * base_trial.measured.full.seconds
    on_front = Counter(f.trial.number for f in found.front if f.point.seconds >= least)
    numbers = dict.fromkeys([base_trial.number, *(number for number, _ in on_front.most_common(MOST_PLANS))])
    fronts, base = [], None
    for trial in (t for t in made if t.number in numbers):
        evaluator = opened(trial.folder / BUNDLE, trial.folder, known)
        all_of = halving.evaluated_candidates(evaluator, known.tune, evaluator.decisions(known.tune), RULES)
        fronts.append((evaluator, all_of, expected_noise(evaluator.profile)))
        if trial is base_trial:
            seconds = all_of[0].mean_seconds * fronts[-1][2]
            base = Choice(0.0, "full", evaluator, all_of[0], seconds)
    assert base is not None
    figures = shown(known, chosen(fronts, base.seconds), base, TIMED)
    figures["base"] = dict(base_trial.options)
    figures["plans"] = [
        {
            **trial.options,
            "problem": trial.measured.problem,
            "full_depth": None
            if trial.measured.problem
            else {
                "time": round(trial.measured.full.seconds / base_trial.measured.full.seconds, 4),
                "quality": round(trial.measured.full.quality / top, 4),
            },
        }
        for trial in found.trials
    ]
    return figures | {"candidates": sum(len(all_of) for _, all_of, _ in fronts), "subset": SUBSET}
