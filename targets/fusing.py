"""Which of the requests that nobody waits for run as one graph.

A request that reads nothing may wait until one comes that reads: then its runtime asks here which of a bundle's
fused segments do what those in the queue ask for. What a fused run leaves in the buffers is what the single
ones would have left, but for scores that nobody read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mue_edge.bundle.manifest import FusedSegment
from mue_edge.loop.protocol import Request
from mue_edge.loop.signals import PORTS
from mue_edge.targets.buffers import sources

# Segments that prepare what others need; they come between these in the loop's order.
PREPARATIONS = ("cross_kv", "fill")
# Orders of requests that are remembered.
MAX_ORDERS = 4096
# Of inputs and of outputs: port → buffer.
Ports = tuple[Mapping[str, str], Mapping[str, str]]


@dataclass(frozen=True, eq=False)
class GraphRun:
    """A segment, fused or not, on buffers: its ports' names → theirs. The same one is the same object."""

    name: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


class Fuser:
    """Turns requests into runs by the fused segments of a bundle, the longest first; remembers what it made."""

    def __init__(self, fused: Mapping[str, FusedSegment]) -> None:
        self._fused = sorted(fused.items(), key=lambda item: -len(item[1].members))
        self._runs: dict[tuple[str, ...], GraphRun] = {}
        self._orders: dict[tuple[str, ...], list[tuple[GraphRun, tuple[int, ...]]]] = {}

    def runs(self, requests: Sequence[Request]) -> list[tuple[GraphRun, tuple[int, ...]]]:
        """Runs that together do what the requests ask for, each with the numbers of its requests."""
        names = [name for request in requests for name in (request.run, *request.inputs.values())]
        key = (*names, *requests[-1].read)
        if key not in self._orders:
            if len(self._orders) >= MAX_ORDERS:
                self._orders.clear()
            self._orders[key] = list(self._split(requests))
        return self._orders[key]

    def _split(self, requests: Sequence[Request]) -> Iterator[tuple[GraphRun, tuple[int, ...]]]:
        queue = preparations_first(requests)
        while queue:
            name, count, ports = self._longest([requests[i] for i in queue])
            key = (name, *ports[0].values(), *ports[1].values())
            yield self._runs.setdefault(key, GraphRun(name, *ports)), tuple(queue[:count])
            del queue[:count]

    def _longest(self, queue: Sequence[Request]) -> tuple[str, int, Ports]:
        """The longest segment that the queue begins with, how many requests it is, and its ports."""
        names = tuple(request.run for request in queue)
        for name, segment in self._fused:
            count = len(segment.members)
            if names[:count] == segment.members and (ports := _buffers(segment, queue[:count])) is not None:
                return name, count, ports
        return names[0], 1, (sources(queue[0]), queue[0].outputs)


def preparations_first(requests: Sequence[Request]) -> list[int]:
    """The requests' numbers, those of preparations ahead of those that have no buffer in common with them."""
    queue: list[int] = []
    for number, request in enumerate(requests):
        at = len(queue)
        if _prepares(request):
            while at and not _prepares(requests[queue[at - 1]]) and not _conflict(requests[queue[at - 1]], request):
                at -= 1
        queue.insert(at, number)
    return queue


def _prepares(request: Request) -> bool:
    return request.run.partition(".")[0] in PREPARATIONS


def _conflict(first: Request, second: Request) -> bool:
    """Whether one writes what the other reads or writes."""
    reads, writes = _reads(first), _writes(first)
    later_reads, later_writes = _reads(second), _writes(second)
    return not (writes.isdisjoint(later_reads | later_writes) and later_writes.isdisjoint(reads))


def _reads(request: Request) -> set[str]:
    return {*request.inputs.values(), *(store.port for store in request.store)}


def _writes(request: Request) -> set[str]:
    return {*request.outputs.values(), *(store.buffer for store in request.store)}


def _buffers(fused: FusedSegment, members: Sequence[Request]) -> Ports | None:
    """The graph's ports with their buffers; None if it does not do what these requests ask for."""
    holds: dict[str, str] = {}  # buffer → the port whose value it has
    inputs, written = dict[str, str](), dict[str, str]()
    for request in members:
        for port, buffer in request.inputs.items():
            name = f"{request.run}:{port}"
            if name in fused.wires:
                if holds.get(buffer) != fused.wires[name]:
                    return None
            elif holds.setdefault(buffer, name) != name:
                return None
            else:
                inputs[name] = buffer
        for port, buffer in request.outputs.items():
            written[buffer] = holds[buffer] = f"{request.run}:{port}"
    needed = {port for port in written.values() if port.partition(":")[2] not in PORTS}
    needed |= {f"{members[-1].run}:{port}" for port in members[-1].read}
    outputs = {port: buffer for buffer, port in written.items() if port in fused.graph.outputs}
    complete = needed <= outputs.keys() and inputs.keys() == fused.graph.inputs.keys()
    return (inputs, outputs) if complete else None
