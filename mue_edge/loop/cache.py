"""Which K/V rows each decoder segment holds: slots, pending rows, beam ancestry.

A decoder segment's cache is a block of slots that never move: step t, row b writes slot
t · rows + b. Beams are not reordered; a row's ancestry, the slots of the tokens before it, is the
mask that its attention gets. A step that exited early lacks rows in the deeper segments. They are
always one contiguous range of steps, so one counter a segment is the whole state, and they are
filled from the kept exit states when a later step first needs them.
"""

from __future__ import annotations

from collections.abc import Sequence


class Cache:
    """Slots of one caption: `rows` beams, `segments` decoder segments."""

    def __init__(self, segments: int, rows: int) -> None:
        self.rows = rows
        self.step = 0
        self.ancestry: list[tuple[int, ...]] = [() for _ in range(rows)]
        self._filled = [0] * segments

    def slots(self) -> tuple[int, ...]:
        """Where this step's rows go."""
        return tuple(range(self.step * self.rows, (self.step + 1) * self.rows))

    def pending(self, segment: int) -> range:
        """Slots of earlier steps that never reached `segment`."""
        return range(self._filled[segment] * self.rows, self.step * self.rows)

    def mark(self, segment: int) -> None:
        """`segment` now holds every row up to and including this step."""
        self._filled[segment] = self.step + 1

    def rewind(self, step: int) -> None:
        """Every segment holds the rows of the steps before `step`, which comes next; of one row only."""
        self.step, self._filled = step, [step] * len(self._filled)
        self.ancestry = [tuple(range(step))]

    def advance(self, parents: Sequence[int]) -> None:
        """The next step's row i descends from this step's row parents[i]."""
        first = self.step * self.rows
        self.ancestry = [(*self.ancestry[p], first + p) for p in parents]
        self.step += 1
