"""What an exit test can read of a stage: signals by name. Standard library only.

A signal gives a row a score, which must exceed the policy's threshold, and a distance = 1 − score with the
digits that the score loses near 1, where good models crowd. It is made of outputs of the stage's segment (or
of the stem, for all boundaries at once), or of the vocabulary head's candidates from the stage's states:
then a test runs the head, whose answer serves as the step's if the test is passed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

SIMILARITY, CONFIDENCE, MARGIN, ENTROPY = "similarity", "confidence", "margin", "entropy"
AGREEMENT, DEPTH_GATE, IMITATION, RAMP = "agreement", "enough", "foresight", "off-ramp"
# The scores and the gaps of a stage's rows.
Reading = tuple[tuple[float, ...], tuple[float, ...]]
# The head's candidates of a row: best ids, their log-probabilities, that of eos.
Candidates = tuple[Sequence[int], Sequence[float], float]


@dataclass(frozen=True)
class Signal:
    """`ports`: outputs of the stage's segment, a value a row; none: the signal is of the head's answer.
    `of_row`: a row's values of the ports, or its candidates → score and distance.

    of_stem: the ports are the stem's, a value a boundary. remembers: `of_row` gets a row's candidates after
    every stage of the step so far, so the head must run after each. states: what the head reads, also for the
    step's word: the stage's "y", or what the segment of that name makes of it. levels: thresholds that are
    worth trying whatever was traced.
    """

    score_row: Callable[..., tuple[float, float]]
    ports: tuple[str, ...] = ()
    from_stem: bool = False
    needs_history: bool = False
    states: str = "y"
    levels: tuple[float, ...] = ()

    @property
    def from_head(self) -> bool:
        return not self.ports

    def read(self, scalars: Mapping[str, Sequence[float]], live: int) -> Reading:
        """Of the first `live` rows, by a segment's scalars; empty if the ports were not read."""
        columns = [scalars.get(port, ())[:live] for port in self.ports]
        return _reading([self.score_row(*map(float, row)) for row in zip(*columns)])

    def read_stem(self, scalars: Mapping[str, Sequence[float]], depth: int) -> Reading:
        """Of the boundary after `depth` layers, by the stem's scalars; empty if they were not read."""
        at = {port: values[depth - 1 : depth] for port, values in scalars.items()}
        return self.read(at, 1)

    def read_head(self, stages: Sequence[Sequence[Candidates]]) -> Reading:
        """Of each row's candidates after the last of the `stages`, or after all of them."""
        if self.needs_history:
            return _reading([self.score_row(rows) for rows in zip(*stages)])
        return _reading([self.score_row(row) for row in stages[-1]])


def _reading(rows: Sequence[tuple[float, float]]) -> Reading:
    return tuple(score for score, _ in rows), tuple(distance for _, distance in rows)


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


def _agreement(rows: Sequence[Candidates]) -> tuple[float, float]:
    """1 − 1/(1 + n) when the best word is that of the n stages before, without a break."""
    words = [row[0][0] for row in rows]
    same = next((n for n, word in enumerate(reversed(words[:-1])) if word != words[-1]), len(words) - 1)
    return same / (1 + same), 1 / (1 + same)


def patience(stages: int) -> float:
    """The threshold that an agreement with so many stages passes, and one with fewer does not."""
    return 1 - 1 / (stages + 0.5)


SIGNALS: dict[str, Signal] = {
    # Cosine of the states before and after the stage's last layer.
    SIMILARITY: Signal(lambda score, distance: (score, distance), ("score", "gap")),
    # How sure the arg-max here is, by a trained head on the states (`mue-edge train --heads`).
    CONFIDENCE: Signal(_sigmoid, ("logit",)),
    MARGIN: Signal(_margin),
    ENTROPY: Signal(_entropy),
    AGREEMENT: Signal(_agreement, needs_history=True, levels=(patience(1), patience(2))),
    # Of a mix of the states with what a trained network imagines the last layer's to be.
    IMITATION: Signal(_entropy, states="mix"),
    # Of the states as a trained linear map puts them before the head.
    RAMP: Signal(_entropy, states="ramp"),
    # How likely an encoder left there is to keep the caption, by a trained network on the stem's features.
    DEPTH_GATE: Signal(_sigmoid, ("enough",), from_stem=True),
}
# All outputs that exit tests read, float32 in every precision.
PORTS = tuple(port for signal in SIGNALS.values() for port in signal.ports)
