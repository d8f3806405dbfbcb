"""A runtime whose buffers hold hashes of all that went into them, so that one stale row changes every
answer after it. What the contract lets die, dies: a decoder's `y` once a segment but the head has
read it. Policies for it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import SCHEMA, Constant, FileEntry, Manifest, Preprocess, RuntimeVersion, Segment
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import EXIT_STATES, HEAD_PORTS, Answer, Layout, Request, Stage
from mue_edge.loop.search import SearchSettings
from mue_edge.loop.signals import DEPTH_GATE, IMITATION, SIMILARITY, patience
from tests import layouts

LAYERS = 4
THREADS = 1


def layout(rows: int = 1) -> Layout:
    """An image stack of four layers in three segments, a text branch, four decoder layers in three."""
    tested, constants = (SIMILARITY, DEPTH_GATE), {"pos_q": "constant:pos_q"}
    image = (*(Stage(f"image.{i}", i + 1, constants, tested) for i in range(2)), Stage("image.2", 4, constants))
    text = tuple(Stage(f"text.{i}", i + 1) for i in range(2))
    heard = (SIMILARITY, IMITATION)
    decoder = (*(Stage(f"decoder.{i}", d, {}, heard) for i, d in enumerate((1, 3))), Stage("decoder.2", 4))
    return layouts.layout(image, decoder, rows, 2, text=text)


def prompt_layout(rows: int = 1) -> Layout:
    """The same with a constant prompt, whose depth no request of the encoder shows."""
    whole = layout(rows)
    image, decoder = whole.stack("image").stages, whole.decoder.stages
    return layouts.layout(image, decoder, rows, 2, distances=(0.6, 0.2, 0.05))


def bundle() -> Bundle:
    """What a store wants of a bundle: hashes. There are no files."""
    manifest = Manifest(
        SCHEMA,
        "made up",
        "none",
        "caption",
        "host",
        "fp32",
        RuntimeVersion("no-such-package", ""),
        {},
        {},
        "plan",
        {"stem": Segment("segments/stem", {}, {})},
        {"pos_q": Constant("constants.bin", 0, (1,))},
        {name: FileEntry(1, "aa") for name in ("segments/stem", "constants.bin", "golden/logs.json")},
        layout(),
        SearchSettings(),
        Preprocess(8, 8),
    )
    return Bundle(Path("nowhere"), manifest)


class Symbolic:
    """Buffers (and rows of them) are byte strings; scores, gaps and candidates follow from them."""

    threads = THREADS

    def __init__(self, rows: int = 1) -> None:
        self.rows, self.executed = rows, list[str]()
        self._held: dict[tuple[str, int], bytes] = {}

    def set_pixels(self, pixels: object) -> None:
        self._held[("pixels", -1)] = bytes(pixels)  # type: ignore[call-overload]

    def close(self) -> None: ...

    def execute(self, request: Request) -> Answer:
        self.executed.append(request.run)
        said = f"{request.run} {request.ids} {request.gather} {request.position}".encode()
        read = []
        for port, buffer in sorted(request.inputs.items()):
            if port == "slots":
                assert request.position is not None
                rows = sorted(set().union(*request.position.ancestry))
                read += [self._held[buffer, row] for row in rows]
            elif buffer == EXIT_STATES:
                read += [self._held[buffer, row] for row in request.gather]
            else:
                # Constants, biases, ids: from outside, so nobody ever wrote them.
                read.append(self._held.get((buffer, -1), buffer.encode()))
        value = sha256(said + b"".join(read)).digest()
        if request.run == "head":
            for store in request.store:
                for row in store.rows:
                    self._held[store.buffer, row] = self._held[store.port, -1] + bytes([row % 251])
        for buffer in request.inputs.values():
            if buffer.startswith("decoder.") and request.run.startswith("decoder."):
                self._held[buffer, -1] = b"read"
        for port, buffer in request.outputs.items():
            self._held[buffer, -1] = value + port.encode()
        for store in request.store:
            if store.port == "kv_rows":
                for i, row in enumerate(store.rows):
                    self._held[store.buffer, row] = value + bytes([i])
        return self._answer(request, random.Random(value))

    def _answer(self, request: Request, chance: random.Random) -> Answer:
        if request.read == HEAD_PORTS:
            rows = []
            for _ in range(self.rows):
                ids = [*chance.sample(range(3, 40), 30), 2]
                rows.append((ids, sorted((-chance.expovariate(0.5) for _ in ids), reverse=True), -3.0))
            return Answer(candidates=rows, now=1.5)
        gaps = [chance.random() for _ in range(self.rows)]
        both = {"score": [1 - gap for gap in gaps], "gap": gaps}
        both["enough"] = [chance.uniform(-2, 2) for _ in range(LAYERS - 1)]
        return Answer({port: both[port] for port in request.read}, now=2.5)


def policies(gaps: dict[str, Sequence[float]], count: int, seed: int = 0) -> list[Policy]:
    """Of every rule: constant and decaying thresholds among the traced gaps, minimum and fixed depths; of a
    gate if `gaps` has some of its own."""
    chance, found = random.Random(seed), [Policy("never")]
    theta = lambda stack: 1 - chance.choice(gaps[stack]) * chance.uniform(0.8, 1.5) if stack in gaps else None
    for i in range(count - 1):
        image, text, decoder = (chance.choice((None, 1, 2)) for _ in range(3))
        if i % 6 == 5:
            rule = "uniform-skip" if i % 12 == 5 else "fixed"
            found.append(
                Policy(
                    rule,
                    {
                        "image": StackExit(depth=image),
                        "text": StackExit(depth=text),
                        "decoder": StackExit(depth=decoder),
                    },
                )
            )
        elif i % 12 == 2:
            theta_decoder = patience(chance.choice((1, 2)))
            found.append(
                Policy("pabee", {"decoder": StackExit(theta_decoder, depth=decoder), "image": StackExit(depth=image)})
            )
        elif i % 12 == 8 and "enough" in gaps:
            rule = "gate" if chance.random() < 0.5 else "deecap"
            found.append(Policy(rule, {"image": StackExit(theta("enough")), "decoder": StackExit(0.3, depth=decoder)}))
        else:
            found.append(
                Policy(
                    "mue-published" if i % 6 == 4 else "mue",
                    {
                        "image": StackExit(theta("image")),
                        "text": StackExit(theta("text")),
                        "decoder": StackExit(theta("decoder")),
                    },
                    beta=chance.choice((1.0, chance.uniform(0.7, 1))),
                    tau=chance.uniform(0, 2),
                    warmup=0.2 if i % 6 == 3 else 0.0,
                    min_depth=2 if i % 6 == 2 else 1,
                )
            )
    chance.shuffle(found)
    return found
