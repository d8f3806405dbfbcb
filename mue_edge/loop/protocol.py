"""The messages between the loop and a runtime, and the record of a caption. Standard library only.

The loop yields a `Request` ("run this segment") and is sent an `Answer` (the scalars that it reads, the
clock). It never sees a tensor: buffers are names, `constant:NAME` being one of the bundle's constants.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mue_edge.loop.search import Hypothesis
from mue_edge.loop.signals import SIGNALS, SIMILARITY, Reading

EXIT_STATES = "exit_states"
# Added to the logits of what nothing may attend to: large enough that softmax gives exactly zero, small
# enough for float16.
MASKED = -1e4
# Which of a joint encoder's tokens are no padding.
LIVE_TOKENS = "encoder_live"
# Where a stack's input comes from.
PICTURE, TEXT, CONSTANT, WORDS = "picture", "text", "constant", "words"
SOURCES = (PICTURE, TEXT, CONSTANT, WORDS)
# The stack that decodes has this name in every layout.
DECODER = "decoder"
# All encoders' signals go to the same buffers, which begin so.
ENCODER_SIGNALS = "encoder"
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
class Stack:
    """Layers that run one after another.

    source: where its input comes from: PICTURE, TEXT (one that comes with the picture), CONSTANT (a text that
    the model fixes: its states are the constants `NAME_x.DEPTH`), WORDS (those written so far: the decoder).
    stem: the segment that makes its input. joins: the segment that joins a text to the picture's. distances:
    of a constant text, 1 − cosine of the states after each layer and before. trained: whether the model was
    trained to be exited early there.
    """

    name: str
    source: str
    stages: tuple[Stage, ...] = ()
    stem: str = ""
    joins: str = ""
    distances: tuple[float, ...] = ()
    trained: bool = True

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The depths at which its segments end; of a constant text, all."""
        return tuple(stage.depth for stage in self.stages) or tuple(range(1, len(self.distances) + 1))

    @cached_property
    def depth(self) -> int:
        """Its layers."""
        return self.ends[-1]

    def layers(self, i: int) -> int:
        """Of segment i."""
        return self.ends[i] - (self.ends[i - 1] if i else 0)

    @property
    def reads(self) -> str:
        """What it looks at, for people; empty: nothing that a user gives."""
        if self.joins:
            return "picture and statement"
        return {PICTURE: "the picture", TEXT: "the statement"}.get(self.source, "")


@dataclass(frozen=True)
class Layout:
    """The cut: what the loop must know of a bundle.

    `stacks` in the order in which they run, the decoder last. `rows` is the static number of queries of the
    decoder segments, `slots` that of the cache's, `verify_rows` that of the segments which check drafts (0:
    there are none). `embeds_steps`: `embed` takes each row's step after the ids.
    """

    stacks: tuple[Stack, ...]
    rows: int
    slots: int
    fill_rows: int
    verify_rows: int = 0
    embeds_steps: bool = False

    @property
    def encoders(self) -> tuple[Stack, ...]:
        """All but the decoder."""
        return self.stacks[:-1]

    @property
    def decoder(self) -> Stack:
        """The stack that runs once a word."""
        return self.stacks[-1]

    def stack(self, name: str) -> Stack:
        """The stack of a name."""
        return next(stack for stack in self.stacks if stack.name == name)

    def depths(self) -> dict[str, int]:
        """Stack → layers."""
        return {stack.name: stack.depth for stack in self.stacks}

    def of_source(self, source: str) -> tuple[Stack, ...]:
        """The stacks whose input comes from there."""
        return tuple(stack for stack in self.stacks if stack.source == source)

    @property
    def picture(self) -> Stack:
        """The stack that looks at the picture."""
        return self.of_source(PICTURE)[0]

    @property
    def text_stem(self) -> str:
        """The segment that reads a text which comes with the picture; empty: there is none."""
        reading = (stack.joins if stack.source != TEXT else stack.stem for stack in self.stacks)
        return next(filter(None, reading), "")

    def calls(self, steps: int) -> int:
        """Calls of a caption of `steps` steps at full depth."""
        once = 1 + sum(len(stack.stages) for stack in self.stacks)
        return once + steps * (2 + len(self.decoder.stages))

    def constants(self) -> dict[str, dict[str, str]]:
        """Stage → its input ports that read constants of the bundle → their buffers. Others of its
        `constants` may be written by the adapter."""
        return {
            stage.name: {k: name for k, name in stage.constants.items() if name.startswith("constant:")}
            for stack in self.stacks
            for stage in stack.stages
        }


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
    scalars to read; empty means nobody waits. then: the complete next request if nothing
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
    monotonic clock in seconds. `ran`: of a runtime that lets requests wait, what it ran in their place and for
    this one, with its seconds; None where each request is run at once."""

    scalars: Mapping[str, Sequence[float]] = field(default_factory=dict)
    candidates: Sequence[tuple[Sequence[int], Sequence[float], float]] = ()
    now: float = 0.0
    ran_ahead: bool = False
    ran: tuple[tuple[str, float], ...] | None = None


@dataclass(frozen=True)
class ExitDecision:
    """One exit test: scores and gaps of the live rows (one for an encoder), of the policy's signal. A traced
    run has in `readings` those of every signal of the stage."""

    stack: str
    depth: int
    step: int
    scores: tuple[float, ...]
    distances: tuple[float, ...]
    threshold: float
    exit: bool
    readings: Mapping[str, Reading] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The fields, `distances` under the key "gaps"; JSON knows no infinity: a test that no score could
        pass has the threshold None."""
        fields = {"gaps" if name == "distances" else name: value for name, value in vars(self).items()}
        return fields | {"threshold": self.threshold if math.isfinite(self.threshold) else None}


@dataclass(frozen=True)
class StepLog:
    """One decoder step: depth run, tokens of the live rows after it, parents (empty at the end)."""

    depth: int
    tokens: tuple[int, ...]
    parents: tuple[int, ...]


@dataclass(frozen=True)
class PolicyChange:
    """From layer `depth` of this stack and step on, `policy` decides."""

    stack: str
    step: int
    depth: int
    policy: str


@dataclass(frozen=True)
class DeadlineResult:
    """What the clock did to a caption.

    limit, finished: seconds since its time began. walked: the policy that it started with, and each
    change. forced: exits by the clock alone. cut_short: the clock ended the search.
    """

    limit: float
    finished: float
    changes: tuple[PolicyChange, ...]
    forced: int
    cut_short: bool

    @property
    def hurried(self) -> bool:
        """Whether the clock changed anything but the end."""
        return len(self.changes) > 1 or self.forced > 0

    def to_json(self) -> dict[str, Any]:
        """The fields, `changes` under the key "walked"."""
        fields = {"walked" if name == "changes" else name: value for name, value in vars(self).items()}
        return fields | {"walked": [vars(change) for change in self.changes]}


@dataclass(frozen=True)
class Outcome:
    """Everything that a caption's run decided; `deadline` is what a deadline did to it."""

    hypotheses: tuple[Hypothesis, ...]
    depths: Mapping[str, int]
    steps: tuple[StepLog, ...]
    decisions: tuple[ExitDecision, ...]
    calls: int
    deadline: DeadlineResult | None = None

    @property
    def exits(self) -> dict[str, Any]:
        """Stack → layers run; the decoder's is a list, one a step."""
        return {**self.depths, DECODER: [step.depth for step in self.steps]}


Loop = Generator[Request, Answer, Outcome]
SegmentCall = Generator[Request, Answer, Answer]
