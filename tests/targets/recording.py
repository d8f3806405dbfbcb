"""Segments run by ONNX Runtime, and their calls written down for the Java stand-in to answer with.

File: magic, methods (name, whether outputs are planned, ports), then every call: name, CRC-32 of each
input's bytes, each output's bytes. Numbers are big-endian, as Java's DataInputStream reads them; tensors are
in native order.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port
from mue_edge.targets.executorch.methods import method_name

MAGIC = 0x4D554552
CODES = {"float32": 6, "int64": 4}
Array = NDArray[Any]


class Recorder:
    """The segments of a host bundle as `methods.Methods`; every call is kept."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.calls: list[tuple[str, list[Array], list[Array]]] = []
        self._sessions: dict[str, ort.InferenceSession] = {}

    def run(self, segment: str, inputs: Sequence[Array]) -> list[Array]:
        entry = self.bundle.manifest.segments[segment]
        if segment not in self._sessions:
            options = ort.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = 1, 3
            self._sessions[segment] = ort.InferenceSession(str(self.bundle.path / entry.file), options)
        outputs = self._sessions[segment].run(list(entry.outputs), dict(zip(entry.inputs, inputs)))
        self.calls.append((segment, [x.copy() for x in inputs], outputs))
        return list(outputs)

    def tensor(self, array: Array) -> Array:
        return array

    def array(self, tensor: Array, port: Port) -> Array:
        return tensor

    def close(self) -> None: ...

    def write(self, path: Path, *, planned: bool = True, without: str = "") -> Path:
        """The recording; `without` leaves a method out."""
        segments = {n: s for n, s in self.bundle.manifest.segments.items() if n != without}
        parts = [struct.pack(">ii", MAGIC, len(segments))]
        for name, segment in segments.items():
            parts += [_text(method_name(name)), struct.pack(">?", planned)]
            parts += [_ports(segment.inputs), _ports(segment.outputs)]
        for name, inputs, outputs in self.calls:
            parts.append(_text(method_name(name)))
            parts += [struct.pack(">q", zlib.crc32(np.ascontiguousarray(x).tobytes())) for x in inputs]
            parts += [np.ascontiguousarray(y).tobytes() for y in outputs]
        path.write_bytes(b"".join(parts))
        return path


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def _ports(ports: Mapping[str, Port]) -> bytes:
    parts = [struct.pack(">i", len(ports))]
    for port in ports.values():
        shape = struct.pack(f">{len(port.shape)}q", *port.shape)
        parts.append(struct.pack(">ii", CODES[port.dtype], len(port.shape)) + shape)
    return b"".join(parts)
