"""A made-up bundle on a made-up clock: every segment takes scripted seconds, nothing is computed."""

from __future__ import annotations

import random
from collections.abc import Callable

from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.deadline import Deadline
from mue_edge.loop.driver import drive
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import HEAD_PORTS, Answer, Layout, Outcome, Request, Stage
from mue_edge.loop.search import BeamSearch, SearchSettings
from mue_edge.loop.speed import SpeedEstimate
from tests import layouts

LAYERS = 6
# Milliseconds: in the proportions of a small model on a CPU.
COSTS = {"stem": 3.0, "image": 1.5, "cross_kv": 1.0, "embed": 0.1, "decoder": 0.5, "fill": 0.2, "head": 1.0}
FAST = Policy("mue", {"image": StackExit(0.6), "decoder": StackExit(0.4)}, beta=1.0, name="fast")
BALANCED = Policy("mue", {"image": StackExit(0.8), "decoder": StackExit(0.7)}, beta=1.0, name="balanced")
FULL = Policy("never", name="full")
Slow = Callable[[str], float]


def layout(rows: int = 1) -> Layout:
    image = tuple(Stage(f"image.{i}", i + 1) for i in range(LAYERS))
    decoder = tuple(Stage(f"decoder.{i}", i + 1) for i in range(LAYERS))
    return layouts.layout(image, decoder, rows, distances=(0.5, 0.1, 0.01))


class Clocked:
    """Captions of random length and scores. `slow` multiplies the time of a call; the clock is `now`."""

    def __init__(self, seed: int, slow: Slow = lambda run: 1.0, *, rows: int = 1, ahead: bool = False) -> None:
        self.random = random.Random(seed)
        self.slow, self.rows, self.ahead = slow, rows, ahead
        self.now = 1000.0
        self.ran: list[tuple[str, float, float]] = []
        self.next_picture()

    def next_picture(self) -> None:
        self.length = min(15, 2 + int(self.random.expovariate(0.5)))
        self.heads = 0
        self.ran.clear()
        self.eager = self.random.uniform(0.5, 1.0)

    def set_pixels(self, pixels: object) -> None: ...

    def close(self) -> None: ...

    def execute(self, request: Request) -> Answer:
        kind, _, number = request.run.partition(".")
        seconds = COSTS[kind] / 1000 * self.slow(request.run)
        self.ran.append((request.run, self.now, seconds))
        self.now += seconds
        if request.read == HEAD_PORTS:
            self.heads += 1
            done = self.heads > self.length
            first = 4 + 3 * self.heads
            ids = [2, first, first + 1, first + 2] if done else [first, first + 1, first + 2, 2]
            row = (ids, [-0.1, -2.0, -2.5, -3.0], -0.1 if done else -3.0)
            return Answer(candidates=[row] * self.rows, now=self.now)
        scalars = {}
        if request.read:
            # Scores rise with depth and depend on nothing else but the step, whatever the policy.
            score = self.eager * (1 - 0.6 ** (int(number) + 1)) + 0.1 * ((self.heads * 7) % 3)
            score = min(0.999, score)
            scalars = {"score": [score] * self.rows, "gap": [1 - score] * self.rows}
        return Answer(scalars, now=self.now, ran_ahead=self.ahead and request.then is not None)


def caption(
    runtime: Clocked,
    limit: float | None,
    pace: SpeedEstimate,
    policy: Policy = FULL,
    faster: tuple[Policy, ...] = (FAST, BALANCED),
    spent: float = 0.0,
) -> Outcome:
    """The next picture's caption; `limit` in seconds, None for no deadline."""
    runtime.next_picture()
    due = Deadline(runtime.now, limit, spent, faster, pace) if limit is not None else None
    runtime.now += spent
    search = BeamSearch(SearchSettings(beam=runtime.rows, max_length=16))
    return drive(caption_loop(layout(runtime.rows), policy, search, deadline=due), runtime)


def bursts(seed: int, factor: float = 5.0, kinds: tuple[str, ...] = ("decoder",)) -> Slow:
    """Calls of these kinds are `factor` slower for a while, now and then."""
    source = random.Random(seed)
    state = {"slow": False}

    def slow(run: str) -> float:
        if source.random() < 0.03:
            state["slow"] = not state["slow"]
        return factor if state["slow"] and run.partition(".")[0] in kinds else 1.0

    return slow


def at_random(seed: int, factor: float = 5.0, share: float = 0.2) -> Slow:
    """A share of all calls is `factor` slower."""
    source = random.Random(seed)
    return lambda run: factor if source.random() < share else 1.0
