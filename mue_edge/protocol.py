"""What the loop and a runtime say to each other, and what a caption leaves behind. Standard library only.

The loop yields a `Request` ("run this segment") and is sent an `Answer` (the scalars that it wanted, the
clock). It never sees a tensor: buffers are names, `constant:NAME` being one of the bundle's constants.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

from mue_edge.search import Hypothesis
from mue_edge.signals import SIGNALS, SIMILARITY, Reading

EXIT_STATES = "exit_states"
# Added to the logits of what nothing may attend to: large enough that softmax gives exactly zero, small
# enough for float16.
HIDDEN = -1e4
# Which of a joint encoder's tokens are no padding.
LIVE = "encoder_live"
HEAD_PORTS = ("top_ids", "top_values", "logsumexp", "eos")


@dataclass(frozen=True)
class Stage:
    """One segment of a stack: its name, the layer after which it ends (counted from 1), and the signals
    that a test after it can read."""

    name: str
    depth: int
    constants: Mapping[str, str] = field(default_factory=dict)
    signals: tuple[str, ...] = (SIMILARITY,)

    @property
    def states(self) -> tuple[str, ...]:
        """What the head can read: "y", or what a segment of that name makes of it."""
        return tuple(dict.fromkeys(("y", *(SIGNALS[name].states for name in self.signals))))


@dataclass(frozen=True)
class Layout:
    """What the loop must know of a bundle.

    `encoder` maps a stack ("image", "text" or "encoder") to its stages, in the order in which they
    run. `prompt_gaps` are the exit gaps of a constant prompt, whose text states are the constants
    `text_x.DEPTH`. `rows` is the static number of queries of the decoder segments, `verify_rows` that of the
    segments which check drafts (0: there are none). `embeds_steps`: `embed` takes each row's step after the
    ids. `joins_text`: `text_stem` joins the picture's patches and a text that comes with it to the encoder's
    input.
    """

    encoder: Mapping[str, tuple[Stage, ...]]
    decoder: tuple[Stage, ...]
    rows: int
    fill_rows: int
    prompt_gaps: tuple[float, ...] = ()
    verify_rows: int = 0
    embeds_steps: bool = False
    joins_text: bool = False

    def calls(self, steps: int) -> int:
        """Calls of a caption of `steps` steps at full depth."""
        once = 1 + sum(map(len, self.encoder.values())) + len(self.decoder)
        return once + steps * (2 + len(self.decoder))


@dataclass(frozen=True)
class Store:
    """After the run, copy row i of output (or kept buffer) `port` to row rows[i] of `buffer`."""

    port: str
    buffer: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Position:
    """What a decoder segment's biases follow from: the step and each query's ancestor slots. `together`:
    query i is of step + i, and of its ancestors those from `step` on are the queries before it."""

    step: int
    ancestry: tuple[tuple[int, ...], ...]
    together: bool = False


@dataclass(frozen=True)
class Request:
    """Run segment `run`.

    inputs, outputs: graph port → buffer name. ids: token ids for the port "ids". gather: rows of
    the input buffer that go in, in this order (the rest of a static port is arbitrary). read:
    scalars wanted back; empty means nobody waits. then: the complete next request if nothing
    exits, offered only when running it ahead has no side cost.
    """

    run: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    read: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    gather: tuple[int, ...] = ()
    store: tuple[Store, ...] = ()
    position: Position | None = None
    then: Request | None = None


@dataclass(frozen=True)
class Answer:
    """`scalars` holds what was read of a signal's ports, a value a row; `candidates` what the head
    was read for, a row for the search each (log-probability = value − logsumexp). `now` is a
    monotonic clock in seconds."""

    scalars: Mapping[str, Sequence[float]] = field(default_factory=dict)
    candidates: Sequence[tuple[Sequence[int], Sequence[float], float]] = ()
    now: float = 0.0
    ran_ahead: bool = False


@dataclass(frozen=True)
class Decision:
    """One exit test: scores and gaps of the live rows (one for an encoder), of the policy's signal. A traced
    run has in `readings` those of every signal of the stage."""

    stack: str
    depth: int
    step: int
    scores: tuple[float, ...]
    gaps: tuple[float, ...]
    threshold: float
    exit: bool
    readings: Mapping[str, Reading] = field(default_factory=dict)


@dataclass(frozen=True)
class StepLog:
    """One decoder step: depth run, tokens of the live rows after it, parents (empty at the end)."""

    depth: int
    tokens: tuple[int, ...]
    parents: tuple[int, ...]


@dataclass(frozen=True)
class Move:
    """From layer `depth` of this stack and step on, `policy` decides."""

    stack: str
    step: int
    depth: int
    policy: str


@dataclass(frozen=True)
class Pacing:
    """What the clock did to a caption.

    limit, finished: seconds since its time began. walked: the policy that it started with, and each
    change. forced: exits by the clock alone. cut_short: the clock ended the search.
    """

    limit: float
    finished: float
    walked: tuple[Move, ...]
    forced: int
    cut_short: bool

    @property
    def hurried(self) -> bool:
        """Whether the clock changed anything but the end."""
        return len(self.walked) > 1 or self.forced > 0


@dataclass(frozen=True)
class Outcome:
    """Everything that a caption's run decided; `pacing` is what a deadline did to it."""

    hypotheses: tuple[Hypothesis, ...]
    depths: Mapping[str, int]
    steps: tuple[StepLog, ...]
    decisions: tuple[Decision, ...]
    calls: int
    pacing: Pacing | None = None


Loop = Generator[Request, Answer, Outcome]
Asked = Generator[Request, Answer, Answer]
