"""What quality is left at a share of full depth's time, and whether exits beat fixed depths.

Both are read off the candidates that a calibration has judged on *tune*: predicted mean times, mean quality
over clusters. What is chosen here is evaluated elsewhere, on pictures that had no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mue_edge.calibrate.policies.signals import SignalQuality
from mue_edge.calibrate.policies.tuning import Judged
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import DECODER
from mue_edge.loop.signals import SIMILARITY
from mue_edge.rules import RULES

SHARES = (0.3, 0.4, 0.5, 0.6, 0.7)  # of full depth's mean time
MARGIN = 0.1  # of a fixed pair's time, that exits shall save at equal quality


@dataclass(frozen=True)
class Duel:
    """A fixed pair of depths against the fastest policy with exits by score that keeps at least as much
    quality (None: none does); `ratio` is that policy's time over the pair's."""

    fixed: Judged
    rival: Judged | None
    ratio: float | None

    @property
    def won(self) -> bool:
        """Whether exits save at least MARGIN of the pair's time."""
        return self.ratio is not None and self.ratio <= 1 - MARGIN


def as_published(policy: Policy) -> bool:
    """Whether a policy is MuE's own: exits by score alone, one θ a stack and the schedule, or full depth."""
    plain = all(own.depth is None and own.thetas is None for own in policy.exits.values())
    return policy.rule in ("mue", "never") and plain


def anything(policy: Policy) -> bool:
    """Admits every policy."""
    return True


def best_within(
    judged: Sequence[Judged], seconds: float, admits: Callable[[Policy], bool] = anything
) -> Judged | None:
    """The best safe quality whose predicted mean time is at most so many seconds; of equals the fastest."""
    fitting = [j for j in judged if j.mean_seconds <= seconds and admits(j.policy)]
    return max(fitting, key=lambda j: (j.safe, -j.mean_seconds), default=None)


def duels(judged: Sequence[Judged]) -> tuple[Duel, ...]:
    """Every fixed pair among them against exits by score, from the fastest pair on."""
    scored = sorted((j for j in judged if RULES[j.policy.rule].by_score), key=_seconds)
    found = []
    for fixed in sorted((j for j in judged if j.policy.rule == "fixed"), key=_seconds):
        rival = next((j for j in scored if j.quality >= fixed.quality), None)
        ratio = None if rival is None else rival.mean_seconds / fixed.mean_seconds
        found.append(Duel(fixed, rival, ratio))
    return tuple(found)


def verdict(found: Sequence[Duel], signals: Sequence[SignalQuality]) -> str:
    """In words: how many fixed pairs exits beat, and if not all, why."""
    if not found:
        return "No pair of fixed depths was tried."
    won = sum(duel.won for duel in found)
    said = f"Exits by score save {MARGIN:.0%} or more of the time of {won} of {len(found)} pairs of fixed"
    said += " depths at no less quality."
    if won == len(found):
        return said
    least = next(duel for duel in found if not duel.won)
    why = [f"{least.fixed.policy.name} is the fastest pair that they do not beat so"]
    if least is found[0]:
        why[0] += ": nothing can run fewer layers"
    known = [s.auc for s in signals if (s.stack, s.signal) == (DECODER, SIMILARITY) and s.auc is not None]
    if known:
        why.append(
            f"the decoder's similarity foretells with an AUC of {min(known):.2f} to {max(known):.2f} whether "
            "stopping keeps the caption (0.5 is a coin), so that exits by it are partly a mixture of depths"
        )
    return f"{said} They do not beat all: {'; '.join(why)}."


def _seconds(judged: Judged) -> float:
    return judged.mean_seconds
