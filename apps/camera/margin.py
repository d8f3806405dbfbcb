"""How much of a budget is kept free at its end, learnt from how late captions ended.

The loop starts no segment after its deadline, yet the last one ends after it, and on a busy machine what
is under way then may wait for a processor. What is kept free exceeds that for all but a few of the last
captions: a conformal quantile, which holds for the next one as far as it is like them.
"""

from __future__ import annotations

import math
from collections import deque

# Of the budget: kept free at least, and at most.
LEAST, MOST = 0.1, 0.5
CAPTIONS = 200
CERTAINTY = 0.98


class Margin:
    """Of one budget; all times in seconds."""

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._over: deque[float] = deque(maxlen=CAPTIONS)

    @property
    def seconds(self) -> float:
        """To be kept free now."""
        ordered = sorted(self._over)
        rank = math.ceil(CERTAINTY * (len(ordered) + 1))
        over = ordered[min(rank, len(ordered)) - 1] if ordered else 0.0  # of a few, the largest
        return min(MOST * self._budget, max(LEAST * self._budget, over))

    def saw(self, over: float) -> None:
        """A caption ended so long after the moment from which on it started nothing; below 0: before."""
        self._over.append(over)
