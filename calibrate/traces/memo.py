"""The memo tree: every answer that runs over one sample ever got, so that no run asks twice.

The loop is deterministic, so the answer to a request follows from the requests before it. The tree's
edges are requests, its nodes their answers: a policy whose requests are all in the tree is served
without a runtime, exactly, whatever its rule and however many beams. Runs are live only below the
first request that the tree lacks.

There the runtime must hold what the requests so far would have left. Buffers are therefore tracked:
a cell (a buffer, or a row of one) holds the node whose run wrote it last. Before a request is run,
those of its ancestors are run again whose cells it reads and which another branch has overwritten,
in their order; so every run reads what it would have read in an undisturbed one. A decoder's `y`
counts as gone once the next decoder segment has read it; everything else must last until the next
picture. Nothing is run ahead. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from mue_edge.errors import UsageError
from mue_edge.loop.driver import Runtime, set_inputs
from mue_edge.loop.protocol import EXIT_STATES, HEAD_PORTS, Answer, Request
from mue_edge.loop.signals import PORTS

KEY_BYTES = 8
# A buffer's name and a row of it, or WHOLE.
Cell = tuple[str, int]
WHOLE = -1


@dataclass(eq=False, slots=True)
class Node:
    """An answer and what was asked next. `index` numbers a sample's nodes from 0, the root."""

    index: int
    answer: Answer = field(default_factory=Answer)
    children: dict[bytes, Node] = field(default_factory=dict)


@dataclass(slots=True)
class Tree:
    """One sample's nodes; `keep(parent, key, answer)` is told of every new one."""

    root: Node = field(default_factory=lambda: Node(0))
    size: int = 0
    keep: Callable[[int, bytes, Answer], None] | None = None

    def add(self, parent: Node, key: bytes, answer: Answer) -> Node:
        """A new child of `parent`, kept first, so that what is not on disk is not in the tree."""
        if self.keep is not None:
            self.keep(parent.index, key, answer)
        self.size += 1
        node = parent.children[key] = Node(self.size, answer)
        return node


@dataclass(eq=False, slots=True)
class _Step:
    """A request of the present run; once a run turns live, the cells that it reads, with the step of this run
    that wrote each, and those that it writes."""

    request: Request
    node: object
    reads: list[tuple[Cell, int]] = field(default_factory=list)
    writes: tuple[Cell, ...] = ()


class MemoEngine:
    """A real runtime, and which node each of its cells holds. Nobody else may use the runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        if hasattr(runtime, "stepwise"):
            runtime.stepwise = True  # what is kept of a segment is what it gives by itself
        self.contents: dict[Cell, object] = {}
        self._owner: object = None

    def show(self, owner: object, pixels: object, source: Sequence[int]) -> None:
        """Show the runtime the owner's picture and text, unless they are there."""
        if self._owner is not owner:
            self.forget()
            set_inputs(self.runtime, pixels, source)
            self._owner = owner

    def forget(self) -> None:
        """Nothing is known of the buffers."""
        self._owner = None
        self.contents.clear()

    def run(self, step: _Step, read: tuple[str, ...]) -> Answer:
        """Run a step whose cells are there."""
        answer = self.runtime.execute(replace(step.request, read=read, then=None))
        if step.request.run.startswith("decoder."):
            self.contents.pop((step.request.inputs["x"], WHOLE), None)
        self.wrote(step)
        return answer

    def wrote(self, step: _Step) -> None:
        """A step's cells hold its node."""
        for cell in step.writes:
            self.contents[cell] = step.node

    def lacks(self, steps: Sequence[_Step]) -> list[int]:
        """The steps to run again before the last one, in order."""
        last = len(steps) - 1
        again = {last}
        first: dict[Cell, int] = {}  # cell → the first of `again` that overwrites it
        grown = True
        while grown:
            grown = False
            for cell, j in [read for i in again for read in steps[i].reads]:
                lost = self.contents.get(cell) is not steps[j].node or first.get(cell, last) < j
                if lost and j not in again:
                    grown = True
                    again.add(j)
                    for written in steps[j].writes:
                        first[written] = min(j, first.get(written, last))
        return sorted(again - {last})


class MemoRuntime:
    """A `driver.Runtime` that asks another only what its tree lacks.

    `live` counts requests run, `again` those among them that were run for their buffers alone,
    `served` requests answered from the tree. Answers have no clock: `now` is 0, so a deadline needs a
    live runtime.
    """

    def __init__(
        self, runtime: Runtime | MemoEngine, pixels: object = None, tree: Tree | None = None, source: Sequence[int] = ()
    ) -> None:
        self._engine = runtime if isinstance(runtime, MemoEngine) else MemoEngine(runtime)
        self._pixels, self.tree, self._source = pixels, tree or Tree(), tuple(source)
        self.live = self.again = self.served = 0
        self._closed = False
        self._node: Node = self.tree.root
        self._begin()

    def set_pixels(self, pixels: object) -> None:
        """Another picture, with an empty tree. A sample of a store keeps its picture."""
        if self.tree.keep is not None:
            raise UsageError("this memo belongs to a stored sample; ask the store for the next one")
        self._pixels, self.tree, self._source = pixels, Tree(), ()
        self._engine.forget()
        self._begin()

    def execute(self, request: Request) -> Answer:
        """The answer, from the tree if it is there. Raises UsageError after `close`."""
        if self._closed:
            raise UsageError("this memo is closed; ask its store for the sample again")
        if "pixels" in request.inputs.values():
            self._begin()
        key = signature(request)
        node = self._node.children.get(key)
        if node is None:
            node = self._ask(request, key)
        else:
            self.served += 1
            self._steps.append(_Step(request, node))
        self._node = node
        scalars = node.answer.scalars
        return Answer({port: scalars[port] for port in request.read if port in scalars}, node.answer.candidates)

    def close(self) -> None:
        """Take no more requests; the runtime stays open."""
        self._closed = True

    def _begin(self) -> None:
        self._node = self.tree.root
        self._steps: list[_Step] = []
        self._linked = 0
        self._writer: dict[Cell, int] = {}

    def _ask(self, request: Request, key: bytes) -> Node:
        """Run a request that the tree lacks, after those whose buffers it needs."""
        engine, step = self._engine, _Step(request, None)
        self._steps.append(step)
        self._link()
        try:
            engine.show(self, self._pixels, self._source)
            again = engine.lacks(self._steps)
            for i in again:
                engine.run(self._steps[i], ())
            answer = engine.run(step, _all(request))
        except BaseException:  # also an interrupt: what the buffers hold now is unknown
            engine.forget()
            self._begin()
            raise
        self.again += len(again)
        self.live += len(again) + 1
        step.node = node = self.tree.add(self._node, key, answer)
        engine.wrote(step)
        return node

    def _link(self) -> None:
        """Which step wrote what each step reads; done only when a run turns live."""
        for i in range(self._linked, len(self._steps)):
            step, writer = self._steps[i], self._writer
            step.reads = [(cell, writer[cell]) for cell in _reads(step.request) if cell in writer]
            step.writes = _writes(step.request)
            for cell in step.writes:
                writer[cell] = i
        self._linked = len(self._steps)


def signature(request: Request) -> bytes:
    """What tells requests after the same ones apart. A constant prompt's depth shows in the inputs of
    cross_kv only, and other search settings in ids and ancestry only."""
    more = tuple(port for port in request.read if port not in PORTS)
    position = request.position and (request.position.step, request.position.ancestry)
    rows = tuple((store.buffer, store.rows) for store in request.store)
    parts = (request.run, tuple(request.inputs.values()), more, request.ids, request.gather, rows, position)
    return blake2b(repr(parts).encode(), digest_size=KEY_BYTES).digest()


def _all(request: Request) -> tuple[str, ...]:
    """What to read, so that a policy that reads more is served too."""
    if request.read == HEAD_PORTS:
        return HEAD_PORTS
    scores = tuple(port for port in PORTS if port in request.outputs)
    return scores + tuple(port for port in request.read if port not in scores)


def _reads(request: Request) -> list[Cell]:
    """Cells that go in. Slots outside a row's ancestry are masked, so they do not count."""
    cells: list[Cell] = []
    for port, buffer in request.inputs.items():
        if port == "slots" and request.position is not None:
            cells += [(buffer, row) for row in set().union(*request.position.ancestry)]
        elif buffer == EXIT_STATES:
            cells += [(buffer, row) for row in request.gather]
        else:
            cells.append((buffer, WHOLE))
    # A buffer that is kept.
    return cells + [(store.port, WHOLE) for store in request.store if store.port not in request.outputs]


def _writes(request: Request) -> tuple[Cell, ...]:
    whole = [(buffer, WHOLE) for buffer in request.outputs.values()]
    return (*whole, *((store.buffer, row) for store in request.store for row in store.rows))
