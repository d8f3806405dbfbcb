"""What quality is left at a share of full depth's time, and whether exits beat fixed depths.

Both are read off the outcomes of a calibration's candidates on *tune*: predicted mean times, mean quality
over clusters. What is chosen here is evaluated elsewhere, on pictures that had no part in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mue_edge.calibrate.policies.evaluator import PolicyOutcome
from mue_edge.calibrate.policies.signals import SignalQuality
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

    fixed: PolicyOutcome
    rival: PolicyOutcome | None
    ratio: float | None

    @property
    def won(self) -> bool:
        """Whether exits save at least MARGIN of the pair's time."""
        return self.ratio is not None and self.ratio <= 1 - MARGIN


def is_published_mue(policy: Policy) -> bool:
    """Whether a policy is MuE's own: exits by score alone, one θ a stack and the schedule, or full depth."""
    plain = all(own.depth is None and own.thetas is None for own in policy.exits.values())
    return policy.rule in ("mue", "never") and plain


def best_within(outcomes: Iterable[PolicyOutcome], seconds: float) -> PolicyOutcome | None:
    """The best lower bound of quality whose predicted mean time is at most so many seconds; of equals the
    fastest."""
    fitting = [o for o in outcomes if o.mean_seconds <= seconds]
    return max(fitting, key=lambda o: (o.quality_lower_bound, -o.mean_seconds), default=None)


def duels(outcomes: Sequence[PolicyOutcome]) -> tuple[Duel, ...]:
    """Every fixed pair among them against exits by score, from the fastest pair on."""
    by_time = sorted(outcomes, key=lambda o: o.mean_seconds)
    scored = [o for o in by_time if RULES[o.policy.rule].by_score]
    pairs = []
    for fixed in (o for o in by_time if o.policy.rule == "fixed"):
        rival = next((o for o in scored if o.quality >= fixed.quality), None)
        pairs.append(Duel(fixed, rival, None if rival is None else rival.mean_seconds / fixed.mean_seconds))
    return tuple(pairs)


def verdict(pairs: Sequence[Duel], signals: Sequence[SignalQuality]) -> str:
    """In words: how many fixed pairs exits beat, and if not all, why."""
    if not pairs:
        return "No pair of fixed depths was tried."
    won = sum(duel.won for duel in pairs)
    words = f"Exits by score save {MARGIN:.0%} or more of the time of {won} of {len(pairs)} pairs of fixed"
    words += " depths at no less quality."
    if won == len(pairs):
        return words
    least = next(duel for duel in pairs if not duel.won)
    reasons = [f"{least.fixed.policy.name} is the fastest pair that they do not beat so"]
    if least is pairs[0]:
        reasons[0] += ": nothing can run fewer layers"
    areas = [s.auc for s in signals if (s.stack, s.signal) == (DECODER, SIMILARITY) and s.auc is not None]
    if areas:
        reasons.append(
            f"the decoder's similarity predicts with an AUC of {min(areas):.2f} to {max(areas):.2f} whether "
            "stopping keeps the caption (0.5 is a coin), so that exits by it are partly a mixture of depths"
        )
    return f"{words} They do not beat all: {'; '.join(reasons)}."
