"""Memo trees on disk: a file a sample, which grows by a record at every live answer.

A file is a sequence of records: length and CRC-32 (two little-endian uint32), then so many bytes. The
first is a header in JSON: sample, picture, bundle, runtime. Each other one is a node: its parent's
number, the request's signature, the answer. Whatever kills the process, at most the last record is torn;
it is dropped at the next opening, and the runs go on from there. Floats are stored as float32 where
that is what they are, so nothing is rounded. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import platform
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from io import SEEK_END, FileIO
from pathlib import Path
from typing import Any

from mue_edge import schema
from mue_edge.bundle.folder import Bundle
from mue_edge.calibrate.traces.memo import KEY_BYTES, MemoEngine, MemoRuntime, Node, Tree
from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError
from mue_edge.loop.driver import Runtime
from mue_edge.loop.protocol import Answer

SCHEMA = 1
SUFFIX = ".memo"
_FRAME = struct.Struct("<II")
_NODE = struct.Struct(f"<I{KEY_BYTES}scBH")  # parent, key, float's letter, scalars, candidate rows


class MemoStore:
    """A folder of traces of one bundle. One sample is open, and in memory, at a time.

    Several processes may share a folder, each with samples of its own; a sample that another one has
    open is a UsageError.
    """

    def __init__(self, folder: str | Path, bundle: Bundle) -> None:
        self.folder, self._bundle = Path(folder), fingerprint(bundle)
        self._runtime_name = bundle.manifest.runtime.name
        self._engine: MemoEngine | None = None
        self._memo: MemoRuntime | None = None
        self._file: FileIO | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise UsageError(f"cannot make the trace folder {folder}: {problem.strerror}") from problem

    def runtime(self, sample: str, pixels: object, runtime: Runtime, source: Sequence[int] = ()) -> MemoRuntime:
        """The sample's memo, with what earlier runs left; closes the one before. `runtime` is the
        store's alone from now on; `source`: ids of a text that comes with the picture. Raises InputFileError
        for another picture, text, bundle or runtime."""
        self.close()
        path = self.path(sample)
        header = {
            "schema": SCHEMA,
            "sample": sample,
            "picture": picture_hash(pixels),
            "bundle": self._bundle,
            "runtime": runtime_fingerprint(runtime, self._runtime_name),
        } | ({"source": list(source)} if source else {})
        try:
            file = self._file = FileIO(path, "a+")
        except OSError as problem:
            raise InputFileError(f"cannot open the trace {path}: {problem.strerror}") from problem
        try:
            _lock(file, path)
            tree = _load(file, path, header)
        except BaseException:
            self.close()
            raise
        tree.keep = lambda parent, key, answer: _append(file, path, pack(parent, key, answer))
        if self._engine is None or self._engine.runtime is not runtime:
            self._engine = MemoEngine(runtime)
        self._memo = MemoRuntime(self._engine, pixels, tree, source)
        return self._memo

    def path(self, sample: str) -> Path:
        """Where a sample's trace is."""
        return self.folder / (hashlib.sha256(sample.encode()).hexdigest()[:32] + SUFFIX)

    def close(self) -> None:
        """Close the sample that is open."""
        if self._memo is not None:
            self._memo.close()
        if self._file is not None:
            self._file.close()
        self._memo = self._file = None

    def __enter__(self) -> MemoStore:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()


def fingerprint(bundle: Bundle) -> str:
    """Hash of what the answers follow from: plan, layout, graphs, weights, constants. A new front,
    golden answers or another tokenizer leave it as it was."""
    manifest = bundle.manifest
    used = {s.file for s in manifest.segments.values()} | {c.file for c in manifest.constants.values()}
    files = {
        name: entry.sha256 for name, entry in manifest.files.items() if name in used or name.startswith("segments/")
    }
    data = [manifest.plan_hash, schema.encode(manifest.layout), schema.encode(manifest.constants), files]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]


def runtime_fingerprint(runtime: Runtime, package: str) -> dict[str, Any]:
    """The adapter, its package's version, threads and the machine's kind: other ones may round otherwise."""
    version = ""
    with suppress(metadata.PackageNotFoundError):
        version = metadata.version(package)
    return {
        "adapter": type(runtime).__name__,
        "package": package,
        "version": version,
        "threads": getattr(runtime, "threads", None),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def picture_hash(pixels: object) -> str:
    """Hash of an array's shape, type and values."""
    view = memoryview(pixels)  # type: ignore[arg-type]
    digest = hashlib.sha256(f"{view.shape} {view.format}".encode())
    digest.update(view.tobytes())
    return digest.hexdigest()[:32]


def pack(parent: int, key: bytes, answer: Answer) -> bytes:
    """A node as bytes."""
    rows = answer.candidates
    floats = [v for values in answer.scalars.values() for v in values]
    floats += [v for _, values, eos in rows for v in (*values, eos)]
    letter = "f" if _are_float32(floats) else "d"
    out = [_NODE.pack(parent, key, letter.encode(), len(answer.scalars), len(rows))]
    for port, values in answer.scalars.items():
        name = port.encode()
        out.append(struct.pack(f"<BH{len(name)}s{len(values)}{letter}", len(name), len(values), name, *values))
    for ids, values, eos in rows:
        shape = f"<H{len(ids)}i{len(values)}{letter}{letter}"
        out.append(struct.pack(shape, len(ids), *ids, *values, eos))
    return b"".join(out)


def unpack(record: bytes) -> tuple[int, bytes, Answer]:
    """Parent, key and answer; raises struct.error for what `pack` did not make."""
    parent, key, letter_byte, ports, rows = _NODE.unpack_from(record)
    letter, at = letter_byte.decode("ascii"), _NODE.size
    scalars: dict[str, Sequence[float]] = {}
    candidates: list[tuple[Sequence[int], Sequence[float], float]] = []
    for _ in range(ports):
        length, count = struct.unpack_from("<BH", record, at)
        shape = struct.Struct(f"<{length}s{count}{letter}")
        name, *values = shape.unpack_from(record, at + 3)
        scalars[name.decode()] = values
        at += 3 + shape.size
    for _ in range(rows):
        (count,) = struct.unpack_from("<H", record, at)
        shape = struct.Struct(f"<{count}i{count}{letter}{letter}")
        row = shape.unpack_from(record, at + 2)
        candidates.append((row[:count], row[count:-1], row[-1]))
        at += 2 + shape.size
    return parent, key, Answer(scalars, candidates)


def _are_float32(values: Sequence[float]) -> bool:
    shape = struct.Struct(f"<{len(values)}f")
    try:
        return shape.unpack(shape.pack(*values)) == tuple(values)
    except OverflowError:
        return False


def _load(file: FileIO, path: Path, header: dict[str, Any]) -> Tree:
    """The tree of a file, which gets its header if it is new and loses a torn last record."""
    file.seek(0)
    data = file.read()
    records, end = _records(data, path)
    if end < len(data):
        file.truncate(end)
    if not records:
        _append(file, path, json.dumps(header).encode())
        return Tree()
    _check_header(records[0], path, header)
    tree = Tree()
    nodes: list[Node] = [tree.root]
    for record in records[1:]:
        try:
            parent, key, answer = unpack(record)
            nodes.append(tree.add(nodes[parent], key, answer))
        except (struct.error, UnicodeDecodeError, IndexError) as problem:
            raise _damaged(path) from problem
    return tree


def _records(data: bytes, path: Path) -> tuple[list[bytes], int]:
    """The whole records, and where they end."""
    records, end = list[bytes](), 0
    while end + _FRAME.size <= len(data):
        length, check = _FRAME.unpack_from(data, end)
        start = end + _FRAME.size
        record = data[start : start + length]
        if len(record) < length:
            break
        if zlib.crc32(record) != check:
            if start + length < len(data):
                raise _damaged(path)
            break
        records.append(record)
        end = start + length
    return records, end


def _check_header(record: bytes, path: Path, expected: dict[str, Any]) -> None:
    try:
        header = json.loads(record)
    except ValueError as problem:
        raise _damaged(path) from problem
    if not isinstance(header, dict):
        raise _damaged(path)
    if differs := [name for name in expected if header.get(name) != expected[name]]:
        values = "; ".join(f"{n}: traced {header.get(n)}, asked {expected[n]}" for n in differs)
        raise InputFileError(
            f"the trace {path} was made with another {' and another '.join(differs)} ({values}); "
            "choose another trace folder, or delete this one to trace again"
        )


def _damaged(path: Path) -> InputFileError:
    return InputFileError(f"the trace {path} is damaged; delete it, and it will be traced again")


def _append(file: FileIO, path: Path, record: bytes) -> None:
    """One unbuffered write: a process that is killed later loses nothing of it."""
    data = _FRAME.pack(len(record), zlib.crc32(record)) + record
    reason, written = "the disk is full", 0
    try:
        written = file.write(data)
    except OSError as problem:
        reason = str(problem.strerror)
    if written < len(data):
        with suppress(OSError):
            file.truncate(file.seek(0, SEEK_END) - written)
        raise EnvironmentLacksError(f"cannot write the trace {path}: {reason}")


def _lock(file: FileIO, path: Path) -> None:
    """Two writers would number their nodes alike. Where there is no flock, the user must see to it."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        raise UsageError(
            f"the trace {path} is open in another process; wait for it, or choose another trace folder"
        ) from problem
