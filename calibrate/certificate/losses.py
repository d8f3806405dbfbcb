"""What a certificate bounds: a relative drop of CIDEr-D or of accuracy, or the share of captions that change.

cider_d      δ bounds the relative drop, without a ratio: X = (1 − δ) s_full − s_exit of each picture, both
             CIDEr-D with frozen frequencies. The drop exceeds δ exactly if E[X] > 0 (means over clusters).
             X lies in [−10, 10 (1 − δ)], so Y = (10 − X) / 20 lies in [δ/2, 1], and E[Y] ≤ 1/2 is tested by
             betting, one term a cluster.
accuracy     the same with scores of 0 and 1, in the place of 10: whether an answer is the one that people (or
             the data's rules) give.
consistency  needs no references: δ bounds the share of captions that are not full depth's own. One drawn
             picture of each cluster, exact binomial. It says nothing of whether either caption is right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.certificate.betting import p_values
from mue_edge.calibrate.certificate.binomial import lower_tail
from mue_edge.calibrate.metrics.cider import TOP
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.errors import UsageError

CIDER_D, ACCURACY, CONSISTENCY = "cider_d", "accuracy", "consistency"
LOSSES = (CIDER_D, ACCURACY, CONSISTENCY)
# The highest score of those whose relative drop is bounded.
TOPS = {CIDER_D: TOP, ACCURACY: 1.0}
NAMES = {CIDER_D: "CIDEr-D", ACCURACY: "accuracy", CONSISTENCY: "share of answers equal to full depth's"}
# Y of a drop that is exactly δ.
HALF = 0.5


def terms(
    full: NDArray[np.float64], exits: NDArray[np.float64], max_drop: float, groups: Clusters, top: float = TOP
) -> NDArray[np.float64]:
    """Y of each cluster [C], in the clusters' order, from the score, at most `top`, of each picture [n]."""
    for name, scores in (("full depth", full), ("the policy", exits)):
        if not ((scores >= 0) & (scores <= top)).all():
            raise UsageError(f"the score of {name} is not within 0 … {top:g} for every picture")
    loss = groups.means((1 - max_drop) * full - exits)
    return (top - loss) / (2 * top)


def drop_p_value(
    full: NDArray[np.float64],
    exits: NDArray[np.float64],
    max_drop: float,
    error: float,
    groups: Clusters,
    top: float = TOP,
) -> float:
    """p-value of "the score, which is at most `top`, drops by `max_drop` or more"."""
    return float(p_values(terms(full, exits, max_drop, groups, top)[:, None], HALF, error)[0])


def observed_drop(full: NDArray[np.float64], exits: NDArray[np.float64], groups: Clusters) -> float:
    """Relative drop of the mean over clusters; negative where the policy is the better one."""
    kept, whole = groups.means(exits).mean(), groups.means(full).mean()
    if whole <= 0:
        raise UsageError("full depth scores 0 everywhere: there is no quality to keep; check the references")
    return float(1 - kept / whole)


def share_p_value(happened: NDArray[np.bool_], share: float, groups: Clusters) -> tuple[float, int]:
    """p-value of "it happens to `share` of captions or more", and the count among one picture a cluster."""
    count = int(happened[groups.drawn()].sum())
    return lower_tail(count, groups.count, share), count
