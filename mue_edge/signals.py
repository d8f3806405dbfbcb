"""What an exit test can read of a stage: signals by name. Standard library only.

A signal gives a row a score, which must exceed the policy's threshold, and a gap = 1 − score with the digits
that the score loses near 1, where good models crowd. It is made of scalars that the stage's segment puts out,
or of what the vocabulary head says of the stage's states: then a test runs the head, whose answer serves as
the step's if it is passed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

SIMILARITY, CONFIDENCE, MARGIN, ENTROPY = "similarity", "confidence", "margin", "entropy"
# The scores and the gaps of a stage's rows.
Reading = tuple[tuple[float, ...], tuple[float, ...]]
# What a head says of a row: best ids, their log-probabilities, that of eos.
Candidates = tuple[Sequence[int], Sequence[float], float]


@dataclass(frozen=True)
class Signal:
    """`ports`: outputs of the stage's segment, a value a row; none: the signal is of the head's answer.
    `of_row`: a row's values of the ports, or its candidates → score and gap."""

    of_row: Callable[..., tuple[float, float]]
    ports: tuple[str, ...] = ()

    @property
    def of_head(self) -> bool:
        return not self.ports

    def read(self, scalars: Mapping[str, Sequence[float]], live: int) -> Reading:
        """Of the first `live` rows, by a segment's scalars; empty if the ports were not read."""
        columns = [scalars.get(port, ())[:live] for port in self.ports]
        return _reading([self.of_row(*map(float, row)) for row in zip(*columns)])

    def read_head(self, rows: Sequence[Candidates]) -> Reading:
        """Of each row's candidates."""
        return _reading([self.of_row(row) for row in rows])


def _reading(rows: Sequence[tuple[float, float]]) -> Reading:
    return tuple(score for score, _ in rows), tuple(gap for _, gap in rows)


def _as_it_is(score: float, gap: float) -> tuple[float, float]:
    return score, gap


def _sigmoid(logit: float) -> tuple[float, float]:
    small = math.exp(-abs(logit))
    likely, unlikely = 1 / (1 + small), small / (1 + small)
    return (likely, unlikely) if logit >= 0 else (unlikely, likely)


def _margin(row: Candidates) -> tuple[float, float]:
    """Probability of the best word minus that of the second."""
    values = row[1]
    second = math.exp(values[1]) if len(values) > 1 else 0.0
    return math.exp(values[0]) - second, -math.expm1(values[0]) + second


def _entropy(row: Candidates) -> tuple[float, float]:
    """1 − entropy in units of ln(candidates + 1), the words beyond the candidates counted as one."""
    likely = [math.exp(value) for value in row[1]]
    rest = max(0.0, 1 - sum(likely))
    entropy = -sum(p * math.log(p) for p in (*likely, rest) if p > 0)
    share = entropy / math.log(len(likely) + 1)
    return 1 - share, share


SIGNALS: dict[str, Signal] = {
    # Cosine of the states before and after the stage's last layer.
    SIMILARITY: Signal(_as_it_is, ("score", "gap")),
    # How sure the arg-max here is, by a trained vector of the states (`mue-edge train --heads`).
    CONFIDENCE: Signal(_sigmoid, ("logit",)),
    MARGIN: Signal(_margin),
    ENTROPY: Signal(_entropy),
}
# All outputs that exit tests read, float32 in every precision.
PORTS = tuple(port for signal in SIGNALS.values() for port in signal.ports)
