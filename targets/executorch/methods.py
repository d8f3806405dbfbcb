"""A runtime over a program of named methods that take and return tensors by position (ExecuTorch).

Buffers are arrays, which the host writes, or the program's own tensors, which segments pass to one another.
Each is made of the other only when it is needed, so cross K/V and hidden states stay in the program, and
constants are handed over once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mue_edge.arrays import Array
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port
from mue_edge.errors import InputFileError
from mue_edge.loop.protocol import Answer, Request
from mue_edge.targets.buffers import Buffers, source

# One tensor of a program: torch's, Java's.
Tensor = Any


class Methods(Protocol):
    """A loaded program. `run`: tensors in and out, in the order of the segment's ports; those that it returns
    stay as they are until the same segment runs again. `array`: a tensor's numbers in the port's type."""

    def run(self, segment: str, inputs: Sequence[Tensor]) -> Sequence[Tensor]: ...

    def tensor(self, array: Array) -> Tensor: ...

    def array(self, tensor: Tensor, port: Port) -> Array: ...

    def close(self) -> None: ...


def method_name(segment: str) -> str:
    """The method of a segment: `image.0` is `image_0`."""
    return segment.replace(".", "_")


def method_of(path: Path, segment: str, known: Collection[str]) -> str:
    """The method of a segment in an open program. Raises InputFileError if it has none."""
    name = method_name(segment)
    if name not in known:
        names = ", ".join(sorted(known))
        raise InputFileError(f"{path} has no method {name!r}; it has: {names}. Export again")
    return name


def program_file(bundle: Bundle) -> Path:
    """The file that all segments are in, its hash checked now. Raises InputFileError if there are several."""
    files = {segment.file for segment in bundle.manifest.segments.values()}
    if len(files) != 1:
        raise InputFileError(f"{bundle.path}: segments lie in {len(files)} files instead of one; export again")
    return bundle.file(files.pop())


class MethodsRuntime(Buffers):
    """A bundle on such a program. Not for several threads at once: buffers are shared by all calls."""

    def __init__(self, bundle: Bundle, methods: Methods) -> None:
        self._methods, self._sides = methods, _Sides(methods)
        super().__init__(bundle, self._sides)

    def execute(self, request: Request) -> Answer:
        segment, sides = self.bundle.manifest.segments[request.run], self._sides
        names = [source(request, port) for port in segment.inputs]
        for name, port in zip(names, segment.inputs.values()):
            if not sides.holds(name, port):
                self.array(name, port)
        self.before(request)
        sides.outdate(self.written)
        outputs = self._methods.run(request.run, list(map(sides.tensor, names)))
        if len(outputs) != len(segment.outputs):
            raise InputFileError(
                f"{self.bundle.path}: segment {request.run} returned {len(outputs)} tensors, the manifest "
                f"lists {len(segment.outputs)}; export again"
            )
        for (name, port), tensor in zip(segment.outputs.items(), outputs):
            if name in request.outputs:
                sides.put(request.outputs[name], tensor, port)
        answer = self.after(request)
        sides.outdate(self.written)
        return answer

    def close(self) -> None:
        self._sides.clear()
        self._methods.close()


class _Sides(MutableMapping[str, Array]):
    """Buffers by name: arrays as a mapping, made of tensors when first read; tensors likewise."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods
        self._arrays: dict[str, Array] = {}
        self._tensors: dict[str, Tensor] = {}
        self._ports: dict[str, Port] = {}

    def holds(self, name: str, port: Port) -> bool:
        """Whether a segment left a tensor for just such a port."""
        return name in self._tensors and self._ports.get(name) == port

    def tensor(self, name: str) -> Tensor:
        if name not in self._tensors:
            self._tensors[name] = self._methods.tensor(self._arrays[name])
        return self._tensors[name]

    def put(self, name: str, tensor: Tensor, port: Port) -> None:
        """What a segment has computed; what stood there before is forgotten."""
        self._arrays.pop(name, None)
        self._tensors[name], self._ports[name] = tensor, port

    def outdate(self, written: set[str]) -> None:
        """Drop the tensors of arrays that the host has written, and forget which these were."""
        for name in written:
            self._tensors.pop(name, None)
        written.clear()

    def __getitem__(self, name: str) -> Array:
        if name not in self._arrays:
            self._arrays[name] = self._methods.array(self._tensors[name], self._ports[name])
        return self._arrays[name]

    def __setitem__(self, name: str, array: Array) -> None:
        del self[name]
        self._arrays[name] = array

    def __delitem__(self, name: str) -> None:
        sides: tuple[dict[str, Any], ...] = (self._arrays, self._tensors, self._ports)
        for side in sides:
            side.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter({**self._arrays, **self._tensors})

    def __len__(self) -> int:
        return len({**self._arrays, **self._tensors})
