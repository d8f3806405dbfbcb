"""How well the signals of a boundary predict that stopping there keeps the caption.

For every boundary, over pictures: *kept* is whether the policy that always ends the stack there gives full
depth's caption; the signal is the distance seen there at full depth, for the decoder the widest of the
caption's steps. The AUC is the chance that a picture that keeps its caption has a smaller distance than one
that does not (ties count half): 0.5 is a coin, 1 a perfect sign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mue_edge.calibrate.policies.candidates import widest
from mue_edge.calibrate.policies.evaluator import PolicyOutcome
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import ExitDecision, Layout
from mue_edge.loop.signals import SIGNALS, SIMILARITY


@dataclass(frozen=True)
class SignalQuality:
    """A boundary: pictures that keep their caption and that change it, AUC of a signal (None: one of them is
    none)."""

    stack: str
    depth: int
    kept: int
    changed: int
    auc: float | None
    signal: str = SIMILARITY


def signals(
    layout: Layout, traces: Sequence[Sequence[ExitDecision]], full: PolicyOutcome, outcomes: Sequence[PolicyOutcome]
) -> tuple[SignalQuality, ...]:
    """Of every boundary that ends a stack in one of the policies, whatever its name.

    traces: full depth's decisions, a picture each, in the order of the policies' captions.
    """
    by_end = {end_of(o.policy): o for o in outcomes}
    qualities = []
    for stack, depth in ((each.name, stage.depth) for each in layout.stacks for stage in each.stages[:-1]):
        ended = by_end.get((stack, depth))
        if ended is None:
            continue
        kept = [a == b for a, b in zip(ended.captions, full.captions, strict=True)]
        for signal in SIGNALS:
            traced = (_distance(decisions, stack, depth, signal) for decisions in traces)
            distances = [distance for distance in traced if distance is not None]
            if len(distances) < len(traces):
                continue
            smaller, larger = (
                [d for d, keeps in zip(distances, kept, strict=True) if keeps == side] for side in (True, False)
            )
            auc = area(smaller, larger)
            qualities.append(SignalQuality(stack, depth, sum(kept), len(kept) - sum(kept), auc, signal))
    return tuple(qualities)


def area(smaller: Sequence[float], larger: Sequence[float]) -> float | None:
    """P(a < b) + P(a = b) / 2 for a drawn from `smaller`, b from `larger` (Mann and Whitney's U by pairs);
    None where either is empty.

    Raises ValueError for NaN, which has no place in an order.
    """
    if not smaller or not larger:
        return None
    a, b = np.sort(np.asarray(smaller)), np.asarray(larger)
    if np.isnan(a).any() or np.isnan(b).any():
        raise ValueError("there is no AUC of values that are not numbers")
    wins = (np.searchsorted(a, b, "left") + np.searchsorted(a, b, "right")).sum() / 2
    return float(wins) / (len(a) * len(b))


def end_of(policy: Policy) -> tuple[str, int] | None:
    """The one stack that a policy of rule "fixed" ends, and where; None for every other policy."""
    ends = [(stack, own.depth) for stack, own in policy.exits.items() if own.depth is not None]
    return ends[0] if policy.rule == "fixed" and len(ends) == 1 else None


def _distance(decisions: Sequence[ExitDecision], stack: str, depth: int, signal: str) -> float | None:
    """A signal's widest distance of a boundary; one that is no number never lets anything exit."""
    values = [widest(d, signal) for d in decisions if (d.stack, d.depth) == (stack, depth)]
    numbers = [math.inf if math.isnan(value) else value for value in values if value is not None]
    return max(numbers, default=None)
