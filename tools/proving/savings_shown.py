"""What is chosen at a share of time saved, and its worth on held-out pictures and live."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from mue_edge.apps.cli.terminal import progress
from mue_edge.calibrate.metrics.bootstrap import change_of_means
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies import savings
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator, PolicyOutcome
from mue_edge.loop.policy import Policy
from mue_edge.measuring import bench
from mue_edge.rules import RULES
from proving.savings_data import Data


def of_rule(name: str, policy: Policy) -> bool:
    """Admits a rule's policies."""
    return policy.rule == name


FAMILIES: dict[str, Callable[[Policy], bool]] = {
    "fixed": lambda policy: policy.rule in ("fixed", "never"),
    "mue": savings.is_published_mue,
    **{name: partial(of_rule, name) for name, rule in RULES.items() if rule.calibrated and name != "mue"},
    "best": lambda policy: True,
}


@dataclass(frozen=True)
class Choice:
    """What is best at a share of the time saved, of one family; `seconds` as predicted."""

    share: float
    family: str
    evaluator: PolicyEvaluator
    judged: PolicyOutcome
    seconds: float


def chosen(fronts: Sequence[tuple[PolicyEvaluator, Sequence[PolicyOutcome], float]], full: float) -> list[Choice]:
    """By share and family the best on the tuning pictures, of all plans: (evaluator, outcomes, factor that
    brings its times to the yardstick of `full`, full depth's seconds)."""
    found = []
    for share in savings.SHARES:
        for family, admits in FAMILIES.items():
            options = []
            for evaluator, all_of, factor in fronts:
                admitted = [o for o in all_of if admits(o.policy)]
                best = savings.best_within(admitted, (1 - share) * full / factor)
                if best is not None:
                    options.append(Choice(share, family, evaluator, best, best.mean_seconds * factor))
            if options:
                found.append(max(options, key=lambda c: (c.judged.quality, -c.seconds)))
    return found


def change(scores: Any, base: Any, clusters: Sequence[str]) -> dict[str, float]:
    """Relative change of the mean over clusters, with its interval."""
    return {key: round(value, 5) for key, value in asdict(change_of_means(scores, base, clusters)).items()}


def ratios(seconds: np.ndarray[Any, Any]) -> list[dict[str, float]]:
    """Of every run [runs, pictures] against the first's: quartiles of the paired ratios, ratio of sums."""
    found = []
    for own in seconds:
        low, middle, high = statistics.quantiles(own / seconds[0], n=4)
        found.append({"low": low, "median": middle, "high": high, "of_sums": float(own.sum() / seconds[0].sum())})
    return [{key: round(value, 4) for key, value in each.items()} for each in found]


def shown(known: Data, choices: Sequence[Choice], base: Choice, pictures: int) -> dict[str, Any]:
    """Every choice on the held-out pictures against `base`, and live."""
    by_plan: dict[int, list[Choice]] = {}
    for choice in [base, *choices]:
        by_plan.setdefault(id(choice.evaluator), []).append(choice)
    scores: dict[tuple[int, str], Any] = {}
    for key, of_plan in by_plan.items():
        policies = list({c.judged.policy.name: c.judged.policy for c in of_plan}.values())
        found = of_plan[0].evaluator.evaluate(policies, known.held, f"{len(policies)} policies, held out")
        scores |= {(key, policy.name): each.scores for policy, each in zip(policies, found)}
    others = known.held
    drawn = [others.samples[i] for i in Clusters(others.clusters).drawn()[:pictures].tolist()]
    live_runs = {
        (id(c.evaluator), c.judged.policy.name): (c.evaluator.session, c.judged.policy) for c in [base, *choices]
    }
    first = (id(base.evaluator), base.judged.policy.name)
    twin = (base.evaluator.session, base.judged.policy)
    runs = [*live_runs.values(), twin]
    with progress("in turns", len(drawn)) as step:
        times = ratios(bench.policy_seconds(runs, drawn, clock=base.evaluator.clock, progress=step))
    timed = dict(zip(live_runs, times))
    rows = []
    for c in choices:
        own = (id(c.evaluator), c.judged.policy.name)
        manifest = c.evaluator.manifest
        rows.append(
            {
                "share": c.share,
                "family": c.family,
                "policy": c.judged.policy.to_json(),
                # Where there is but one plan, it is not worth a word.
                "plan": {k: manifest.plan[k] for k in ("height", "width", "precision", "ends")}
                if len(by_plan) > 1
                else {},
                "layers": {stack: round(value, 3) for stack, value in c.judged.layers.items()},
                "predicted": round(c.seconds / base.seconds, 4),
                "live": timed[own],
                "kept_tune": round(c.judged.quality / base.judged.quality, 4),
                "change_held": change(scores[own], scores[first], others.clusters),
            }
        )
    return {
        "tune": {"source": known.tune.source, "pictures": len(known.tune)},
        "held": {
            "source": others.source,
            "pictures": len(others),
            "clusters": Clusters(others.clusters).count,
            "cider_d_base": round(float(Clusters(others.clusters).means(scores[first]).mean()), 4),
        },
        "timed": len(drawn),
        "twin": times[-1],
        "rows": rows,
    }
