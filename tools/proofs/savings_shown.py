"""What is chosen at a share of time saved, and its worth on held-out pictures and live."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from mue_edge.calibrate import bootstrap, calibration, savings, tuning
from mue_edge.calibrate.clusters import Clusters
from mue_edge.calibrate.setting import Setting, runs_of, score_of, speak
from mue_edge.calibrate.tuning import Judged
from mue_edge.captioner import Captioner
from mue_edge.policy import Policy
from mue_edge.rules import RULES
from proofs.savings_data import progress


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


def judged(setting: Setting) -> list[Judged]:
    """The candidates that a calibration would judge on the tuning pictures, full depth first."""
    policies = calibration.enumerated(setting, calibration.traces(setting))
    policies = calibration.promising(setting, policies)
    found = runs_of(setting, policies, setting.tune, f"{len(policies)} policies")
    spoken = speak(setting)
    score = score_of(setting, setting.tune, [spoken(runs.runs[0].tokens) for runs in found])
    return tuning.judge(policies, found, setting.tune.clusters, setting.profile, score, spoken)


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


def held_scores(setting: Setting, policies: Sequence[Policy]) -> list[np.ndarray[Any, Any]]:
    """CIDEr-D of every policy on the held-out pictures."""
    found = runs_of(setting, policies, setting.certify, f"{len(policies)} policies, held out")
    spoken = speak(setting)
    score = score_of(setting, setting.certify, ())
    return [np.asarray(score([spoken(runs.runs[i].tokens) for runs in found])) for i in range(len(policies))]


def change(scores: Any, base: Any, clusters: Sequence[str]) -> dict[str, float]:
    """Relative change of the mean over clusters, with its interval."""
    groups = Clusters(clusters)
    names = [str(i) for i in range(groups.count)]
    exits, full = (bootstrap.mean_of(groups.means(each).tolist()) for each in (scores, base))
    found = bootstrap.relative_change(exits, full, names)
    return {key: round(value, 5) for key, value in asdict(found).items()}


def timed(runs: Sequence[tuple[Captioner, Policy]], pictures: Sequence[Any]) -> list[dict[str, float]]:
    """CPU seconds of each run's captions against the first's, all in turns: medians and quartiles of the
    paired ratios, and the ratio of the sums."""
    seconds, order = np.zeros((len(runs), len(pictures))), random.Random(0)
    for k, picture in enumerate([*pictures[:3], *pictures]):
        for i in order.sample(range(len(runs)), len(runs)):
            captioner, policy = runs[i]
            begin = time.process_time()
            captioner.caption(picture, policy=policy)
            seconds[i, max(0, k - 3)] = time.process_time() - begin
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
        found = held_scores(of_plan[0].setting, policies)
        scores |= {(key, policy.name): each for policy, each in zip(policies, found)}
    held = base.setting.certify
    drawn = Clusters(held.clusters).drawn()[:pictures]
    live_runs = {
        (id(c.setting), c.judged.policy.name): (c.setting.captioner, c.judged.policy)
        for c in [base, *choices]
    }
    first = (id(base.setting), base.judged.policy.name)
    twin = (base.setting.captioner, base.judged.policy)
    with progress("in turns", len(drawn)):
        times = timed([*live_runs.values(), twin], [held.samples[i].picture for i in drawn.tolist()])
    live = dict(zip(live_runs, times))
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
                "predicted": round(c.seconds / base.seconds, 4), "live": live[own],
                "kept_tune": round(c.judged.quality / base.judged.quality, 4),
                "change_held": change(scores[own], scores[first], held.clusters),
            }
        )  # fmt: skip
    return {
        "tune": {"source": base.setting.tune.source, "pictures": len(base.setting.tune)},
        "held": {
            "source": held.source, "pictures": len(held), "clusters": Clusters(held.clusters).count,
            "cider_d_base": round(float(Clusters(held.clusters).means(scores[first]).mean()), 4),
        },
        "timed": len(drawn), "twin": times[-1], "rows": rows,
    }  # fmt: skip
