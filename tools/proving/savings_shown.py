"""What is chosen at a share of time saved, and its worth on held-out pictures and live."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from mue_edge.apps.cli.terminal import progress
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies import held, savings
from mue_edge.calibrate.policies.setting import Setting
from mue_edge.calibrate.policies.tuning import Judged
from mue_edge.loop.policy import Policy
from mue_edge.measuring import bench
from mue_edge.rules import RULES


def of_rule(name: str, policy: Policy) -> bool:
    """Admits a rule's policies."""
    return policy.rule == name


FAMILIES: dict[str, Callable[[Policy], bool]] = {
    "fixed": lambda policy: policy.rule in ("fixed", "never"),
    "mue": savings.as_published,
    **{name: partial(of_rule, name) for name, rule in RULES.items() if rule.calibrated and name != "mue"},
    "best": savings.anything,
}


@dataclass(frozen=True)
class Choice:
    """What is best at a share of the time saved, of one family; `seconds` as predicted."""

    share: float
    family: str
    setting: Setting
    judged: Judged
    seconds: float


def chosen(fronts: Sequence[tuple[Setting, Sequence[Judged], float]], full: float) -> list[Choice]:
    """By share and family the best on the tuning pictures, of all plans: (setting, judged, factor that
    brings its times to the yardstick of `full`, full depth's seconds)."""
    found = []
    for share in savings.SHARES:
        for family, admits in FAMILIES.items():
            options = []
            for setting, all_of, factor in fronts:
                best = savings.best_within(all_of, (1 - share) * full / factor, admits)
                if best is not None:
                    options.append(Choice(share, family, setting, best, best.mean_seconds * factor))
            if options:
                found.append(max(options, key=lambda c: (c.judged.quality, -c.seconds)))
    return found


def change(scores: Any, base: Any, clusters: Sequence[str]) -> dict[str, float]:
    """Relative change of the mean over clusters, with its interval."""
    return {key: round(value, 5) for key, value in asdict(held.change(scores, base, clusters)).items()}


def ratios(seconds: np.ndarray[Any, Any]) -> list[dict[str, float]]:
    """Of every run [runs, pictures] against the first's: quartiles of the paired ratios, ratio of sums."""
    found = []
    for own in seconds:
        low, middle, high = statistics.quantiles(own / seconds[0], n=4)
        found.append(
            {"low": low, "median": middle, "high": high, "of_sums": float(own.sum() / seconds[0].sum())}
        )
    return [{key: round(value, 4) for key, value in each.items()} for each in found]


def shown(choices: Sequence[Choice], base: Choice, pictures: int) -> dict[str, Any]:
    """Every choice on the held-out pictures against `base`, and live."""
    by_plan: dict[int, list[Choice]] = {}
    for choice in [base, *choices]:
        by_plan.setdefault(id(choice.setting), []).append(choice)
    scores: dict[tuple[int, str], Any] = {}
    for key, of_plan in by_plan.items():
        policies = list({c.judged.policy.name: c.judged.policy for c in of_plan}.values())
        found = held.seen(of_plan[0].setting, policies)
        scores |= {(key, policy.name): each.scores for policy, each in zip(policies, found)}
    others = base.setting.certify
    drawn = [others.samples[i] for i in Clusters(others.clusters).drawn()[:pictures].tolist()]
    live_runs = {
        (id(c.setting), c.judged.policy.name): (c.setting.captioner, c.judged.policy)
        for c in [base, *choices]
    }
    first = (id(base.setting), base.judged.policy.name)
    twin = (base.setting.captioner, base.judged.policy)
    with progress("in turns", len(drawn)):
        times = ratios(bench.policy_seconds([*live_runs.values(), twin], drawn, clock=base.setting.clock))
    timed = dict(zip(live_runs, times))
    rows = []
    for c in choices:
        own = (id(c.setting), c.judged.policy.name)
        manifest = c.setting.captioner.bundle.manifest
        rows.append(
            {
                "share": c.share, "family": c.family, "policy": c.judged.policy.to_json(),
                # Where there is but one plan, it is not worth a word.
                "plan": {k: manifest.plan[k] for k in ("height", "width", "precision", "ends")}
                if len(by_plan) > 1
                else {},
                "layers": {stack: round(value, 3) for stack, value in c.judged.layers.items()},
                "predicted": round(c.seconds / base.seconds, 4), "live": timed[own],
                "kept_tune": round(c.judged.quality / base.judged.quality, 4),
                "change_held": change(scores[own], scores[first], others.clusters),
            }
        )  # fmt: skip
    return {
        "tune": {"source": base.setting.tune.source, "pictures": len(base.setting.tune)},
        "held": {
            "source": others.source, "pictures": len(others), "clusters": Clusters(others.clusters).count,
            "cider_d_base": round(float(Clusters(others.clusters).means(scores[first]).mean()), 4),
        },
        "timed": len(drawn), "twin": times[-1], "rows": rows,
    }  # fmt: skip
