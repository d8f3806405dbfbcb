"""A bundle of three layers a stack that exists as a manifest only, and a runtime that answers without
computing, by a clock of its own."""

from __future__ import annotations

from pathlib import Path

from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import SCHEMA, Manifest, Port, Preprocess, RuntimeVersion, Segment, plan_hash
from mue_edge.loop.protocol import HEAD_PORTS, Answer, Request
from mue_edge.loop.search import SearchSettings
from tests.layouts import layout, stages

LAYERS, LENGTH = 3, 6
PLAN = {"height": 32, "width": 32}


def segments() -> dict[str, Segment]:
    """Every name that the loop can ask for, with round numbers: 1 MB of weights, 10⁹ macs."""

    def segment(name: str) -> Segment:
        macs = 0 if name == "embed" else 10**9
        return Segment(f"{name}.onnx", {"x": Port((250,))}, {"y": Port((250,))}, weight_bytes=10**6, macs=macs)

    stacks = [f"{kind}.{i}" for kind in ("image", "cross_kv", "decoder") for i in range(LAYERS)]
    names = ["stem", "embed", "head", *stacks, *(f"fill.{i}" for i in range(1, LAYERS))]
    return {name: segment(name) for name in names}


def bundle(precision: str = "fp32") -> Bundle:
    """Its folder holds nothing."""
    manifest = Manifest(
        SCHEMA,
        "made",
        "ofa",
        "caption",
        "host",
        precision,
        RuntimeVersion("onnxruntime", ">=1"),
        {"vocab_size": 9},
        PLAN,
        plan_hash(PLAN),
        segments(),
        {},
        {},
        layout(stages("image", LAYERS), stages("decoder", LAYERS), distances=(0.1, 0.1, 0.1)),
        SearchSettings(),
        Preprocess(32, 32),
        ({"rule": "never", "name": "full"},),
        "full",
    )
    return Bundle(Path("made-bundle"), manifest)


class Clock:
    """Seconds that pass only when something says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Paced:
    """Answers every score with 0.5 and captions of LENGTH tokens; a call takes `seconds(run)` of `clock`."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.heads, self.pictures = clock, 0, 0

    def seconds(self, run: str) -> float:
        """A millisecond for each letter of the kind; layers differ by a tenth of it."""
        kind, _, number = run.partition(".")
        return 1e-3 * (len(kind) + 0.1 * int(number or 0))

    def set_pixels(self, pixels: object) -> None:
        self.heads = 0
        self.pictures += 1
        self.clock.now += 5e-3

    def execute(self, request: Request) -> Answer:
        self.clock.now += self.seconds(request.run)
        if request.read == HEAD_PORTS:
            self.heads += 1
            done = self.heads >= LENGTH
            ids = [2, 4 + self.heads] if done else [4 + self.heads, 2]
            return Answer(candidates=[(ids, [-0.1, -3.0], -0.1 if done else -3.0)])
        return Answer({port: [0.5] for port in request.read})

    def close(self) -> None: ...
