"""Whether lossless drafting pays, by a profile's times of the segments and by what captions called so far.

A word costs full depth `embed`, every decoder segment and `head`. What drafting costs depends on the policy
and on how many drafts are kept, so a few captions are drafted and what they called is added up, as the
profile says it; drafting goes on if that is less than full depth would have needed. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable

from mue_edge.loop.protocol import Layout

TRIED = 8  # captions


class Payoff:
    """`seconds`: of one call of a segment (`Profile.call_seconds`)."""

    def __init__(self, layout: Layout, seconds: Callable[[str], float]) -> None:
        self._seconds, names = seconds, [stage.name for stage in layout.decoder.stages]
        self.word = sum(map(seconds, ("embed", *names, "head")))
        rows = layout.verify_rows
        checked = [f"verify.{j}" for j in range(1, len(names))]
        least = rows * sum(map(seconds, ("embed", names[0], "head")))
        least += sum(map(seconds, (*checked, "verify_head"))) if rows else 0.0
        # Drafts of one segment, all of them kept: nothing can do better.
        self._may = bool(rows) and least < rows * self.word
        self._spent, self._words, self._captions = 0.0, 0, 0
        # What a caption calls once, drafted or not.
        self._once = {name for stack in layout.encoders for name in (stack.stem, stack.joins)}
        self._once |= {stage.name for stack in layout.encoders for stage in stack.stages}
        self._once |= {f"cross_kv.{j}" for j in range(len(names))}

    @property
    def pays(self) -> bool:
        """Whether the next caption is to be drafted."""
        return self._may and (self._captions < TRIED or self.ratio < 1)

    @property
    def ratio(self) -> float:
        """Time of the drafted captions' words over full depth's for the same; 1 before there are any."""
        return self._spent / (self._words * self.word) if self._words else 1.0

    def saw(self, run: str) -> None:
        """A drafted caption called this segment."""
        if run not in self._once:
            self._spent += self._seconds(run)

    def ended(self, words: int) -> None:
        """A drafted caption ended with so many."""
        self._words, self._captions = self._words + words, self._captions + 1
