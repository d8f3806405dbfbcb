"""How well the signals of a boundary foretell that stopping there keeps the caption.

For every boundary, over pictures: *kept* is whether the policy that always ends the stack there gives full
depth's caption; the signal is the gap seen there at full depth, for the decoder the widest of the caption's
steps. The AUC is the chance that a picture that keeps its caption has a smaller gap than one that does not
(ties count half): 0.5 is a coin, 1 a perfect sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mue_edge.calibrate.policies.candidates import widest
from mue_edge.calibrate.policies.tuning import Judged
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
    layout: Layout, traces: Sequence[Sequence[ExitDecision]], full: Judged, judged: Sequence[Judged]
) -> tuple[SignalQuality, ...]:
    """Of every boundary that ends a stack in one of the policies `judged`, whatever its name.

    traces: full depth's decisions, a picture each, in the order of the policies' captions.
    """
    by_end = {end_of(j.policy): j for j in judged if end_of(j.policy) is not None}
    found = []
    for stack, depth in _boundaries(layout):
        ended = by_end.get((stack, depth))
        for name in SIGNALS:
            gaps = [_gap(decisions, stack, depth, name) for decisions in traces]
            if ended is None or any(gap is None for gap in gaps):
                continue
            kept = [a == b for a, b in zip(ended.captions, full.captions, strict=True)]
            signs = [gap for gap in gaps if gap is not None]
            auc = area([s for s, k in zip(signs, kept) if k], [s for s, k in zip(signs, kept) if not k])
            found.append(SignalQuality(stack, depth, sum(kept), len(kept) - sum(kept), auc, name))
    return tuple(found)


def area(smaller: Sequence[float], larger: Sequence[float]) -> float | None:
    """P(a < b) + P(a = b) / 2 for a drawn from `smaller`, b from `larger` (Mann and Whitney's U by pairs).

    Raises ValueError for NaN, which has no place in an order.
    """
    if not smaller or not larger:
        return None
    if any(map(math.isnan, (*smaller, *larger))):
        raise ValueError("there is no AUC of values that are not numbers")
    values = sorted([*((v, 0) for v in smaller), *((v, 1) for v in larger)])
    wins, below, i = 0.0, 0, 0
    while i < len(values):
        end = i
        while end < len(values) and values[end][0] == values[i][0]:
            end += 1
        tied = sum(1 for _, side in values[i:end] if side == 0)
        wins += (end - i - tied) * (below + tied / 2)
        below, i = below + tied, end
    return wins / (len(smaller) * len(larger))


def _boundaries(layout: Layout) -> Iterator[tuple[str, int]]:
    for stack in layout.stacks:
        yield from ((stack.name, stage.depth) for stage in stack.stages[:-1])


def end_of(policy: Policy) -> tuple[str, int] | None:
    """The one stack that a policy of rule "fixed" ends, and where; None for every other policy."""
    given = [(stack, own.depth) for stack, own in policy.exits.items() if own.depth is not None]
    return given[0] if policy.rule == "fixed" and len(given) == 1 else None


def _gap(decisions: Sequence[ExitDecision], stack: str, depth: int, signal: str) -> float | None:
    """A signal's widest gap of a boundary; one that is no number never lets anything leave."""
    found = [widest(d, signal) for d in decisions if (d.stack, d.depth) == (stack, depth)]
    gaps = [gap for gap in found if gap is not None]
    return max((math.inf if math.isnan(gap) else gap for gap in gaps), default=None)
