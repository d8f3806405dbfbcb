"""How far an export is: its phases, each with its share of the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate

# What is being done, how much is done, and how much there is.
Progress = Callable[[str, int, int], None]
TOTAL = 1000


def phases(report: Progress, work: Mapping[str, float]) -> dict[str, Progress]:
    """Phase → its progress, which `report` is told as a part of the whole, in thousandths. work: phase → how
    long it takes, in any unit, in their order."""
    ends = list(accumulate(work.values()))

    def part(begin: float, share: float) -> Progress:
        return lambda what, done, total: report(what, round(TOTAL * (begin + share * done / total) / ends[-1]), TOTAL)

    return {name: part(end - share, share) for (name, share), end in zip(work.items(), ends)}


def steps(progress: Progress, what: str, work: Iterable[float]) -> Callable[[], None]:
    """What to call after each of the steps that take so long; the first begins now."""
    done = [0, *(round(TOTAL * end) for end in accumulate(work))]
    following = iter(done[1:])
    progress(what, 0, done[-1])
    return lambda: progress(what, next(following), done[-1])
