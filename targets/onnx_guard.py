"""What an ONNX file refers to outside of itself, read without trusting it to a parser.

Runtimes follow a graph's external data to other files; loaders had escapes of this kind. Only the few
protobuf fields on the way to tensors are walked (field numbers of onnx.proto)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mue_edge.bundle.folder import Bundle
from mue_edge.errors import InputFileError
from mue_edge.targets.protobuf import fields

# message → field → message that lies in it
_INSIDE = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA = 13


def check(bundle: Bundle, name: str) -> None:
    """Raises InputFileError unless every external tensor of the graph lies inside a listed file of the same
    folder, and for a file that is not a readable protobuf."""
    path = bundle.file(name)
    folder = name.rpartition("/")[0]
    try:
        entries = list(_external(memoryview(path.read_bytes()), "model", 0))
    except (IndexError, ValueError) as problem:
        raise InputFileError(f"{path} is not an ONNX file: {problem}") from problem
    for entry in entries:
        location = entry.get("location", "")
        listed = bundle.manifest.files.get(f"{folder}/{location}" if folder else location)
        if listed is None or Path(location).name != location:
            raise InputFileError(f"{path} takes weights from {location!r}, which the bundle does not list")
        try:
            start, length = int(entry.get("offset", "0")), int(entry.get("length", "0"))
        except ValueError as problem:
            raise InputFileError(f"{path}: {problem}") from problem
        if start < 0 or length < 0 or start + length > listed.bytes:
            raise InputFileError(f"{path} takes weights from beyond the end of {location}")


def _external(data: memoryview, message: str, depth: int) -> Iterator[dict[str, str]]:
    if depth > 64:
        raise ValueError("nested too deeply")
    inside = _INSIDE.get(message, {})
    external: dict[str, str] = {}
    for number, value in fields(data):
        if isinstance(value, int):
            continue
        if message == "tensor" and number == _EXTERNAL_DATA:
            pair = {n: bytes(v).decode("utf-8") for n, v in fields(value) if not isinstance(v, int)}
            external[pair.get(1, "")] = pair.get(2, "")
        elif number in inside:
            yield from _external(value, inside[number], depth + 1)
    if external:
        yield external
