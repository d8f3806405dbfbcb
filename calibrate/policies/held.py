"""Policies that were chosen on some pictures, on others that had no part in the choice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.metrics import bootstrap
from mue_edge.calibrate.metrics.bootstrap import Estimate
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies import calibration, tuning
from mue_edge.calibrate.policies.setting import Setting, runs_of, score_of, speak
from mue_edge.calibrate.policies.tuning import Judged
from mue_edge.calibrate.traces.outcomes import TracedRun
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import ExitDecision
from mue_edge.rules import RULES


@dataclass(frozen=True)
class HeldOutOutcome:
    """A policy on the setting's *certify*: a score, a caption and a run a picture."""

    scores: NDArray[np.float64]
    captions: tuple[str, ...]
    runs: tuple[TracedRun, ...]


def judged(
    setting: Setting, traces: Sequence[Sequence[ExitDecision]], rules: Collection[str] = RULES
) -> list[Judged]:
    """The candidates of some rules that are worth all tuning pictures, the best of every one among them, full
    depth first."""
    full, *others = calibration.enumerated(setting, traces)
    policies = [full, *(policy for policy in others if policy.rule in rules)]
    policies = calibration.promising(setting, policies, every_rule=True)
    found = runs_of(setting, policies, setting.tune, f"{len(policies)} policies")
    spoken = speak(setting)
    score = score_of(setting, setting.tune, [spoken(runs.runs[0].tokens) for runs in found])
    return tuning.judge(policies, found, setting.tune.clusters, setting.profile, score, spoken)


def seen(setting: Setting, policies: Sequence[Policy]) -> list[HeldOutOutcome]:
    """Every policy on the pictures that are held out; without references the first one's captions are what
    the others are held against."""
    found = runs_of(setting, policies, setting.certify, f"{len(policies)} policies, held out")
    spoken = speak(setting)
    texts = [tuple(spoken(runs.runs[i].tokens) for runs in found) for i in range(len(policies))]
    score = score_of(setting, setting.certify, texts[0])
    return [
        HeldOutOutcome(np.asarray(score(own), dtype=np.float64), own, tuple(runs.runs[i] for runs in found))
        for i, own in enumerate(texts)
    ]


def change(scores: NDArray[np.float64], base: NDArray[np.float64], clusters: Sequence[str]) -> Estimate:
    """Relative change of the mean over clusters, with its interval."""
    groups = Clusters(clusters)
    names = [str(i) for i in range(groups.count)]
    own, other = (bootstrap.mean_of(groups.means(each).tolist()) for each in (scores, base))
    return bootstrap.relative_change(own, other, names)
