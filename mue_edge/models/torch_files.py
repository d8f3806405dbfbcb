"""Files of torch.save, read without torch.load: nothing is run, and a tensor is read when it is taken.

Zip files (since torch 1.6): `NAME/data.pkl` and one entry per storage. Older ones: five pickles,
then the storages one after the other. Both are mapped, so that an optimiser's state costs nothing.
"""

from __future__ import annotations

import io
import mmap
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from mue_edge.errors import InputFileError
from mue_edge.models import pickles
from mue_edge.models.pickle_values import blame
from mue_edge.models.stored_tensors import TENSOR_MEANINGS, Storage, StoredTensor, realise, storage

MOST_PICKLED = 256 << 20
SLACK = 256 << 20
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_LOCAL_HEADER = struct.Struct("<4s22xHH")


@dataclass
class TorchFile:
    """What a file holds: `content` is its object, with every tensor a StoredTensor.

    `budget`: how many bytes of tensors may still be read. Compression, strides of 0 and tensors that
    share numbers can make much of a small file; honest ones are hardly larger than theirs.
    """

    path: Path
    content: Any
    numbers: Callable[[Storage], Tensor]
    budget: int
    order: str = "little"

    def tensor(self, stored: StoredTensor) -> Tensor:
        """The tensor. Raises InputFileError, without the file's name, if the file does not hold it."""
        self.budget -= stored.size
        if self.budget < 0:
            raise InputFileError("makes the tensors far larger than their file")
        try:
            return realise(stored, self.numbers, order=self.order)
        except _DAMAGED as problem:
            raise InputFileError(f"cannot be read: {str(problem)[:200]!a}") from problem


_DAMAGED = (
    *(OSError, ValueError, LookupError, TypeError, struct.error, EOFError, MemoryError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError),
)


def read(path: Path) -> TorchFile:
    """A file of torch.save, or a plain pickle, which holds no tensors.

    Raises InputFileError for all else, and for a file that is cut short.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            if mapped[:4] == b"PK\x03\x04":
                return _read_zip(path, mapped)
            return _read_old(path, mapped, file)
    except InputFileError as problem:
        raise InputFileError(f"{path} cannot be read as weights: {problem}") from problem
    except _DAMAGED as problem:
        raise InputFileError(f"{path} cannot be read as weights: {str(problem)[:200]!a}") from problem


def _read_zip(path: Path, mapped: mmap.mmap) -> TorchFile:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if len(entries) != len(archive.infolist()):
            raise InputFileError("it holds two entries of one name")
        roots = [name.removesuffix("data.pkl") for name in entries if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(roots) != 1:
            raise InputFileError("it is a zip file, but not one of torch.save")
        root = roots[0]
        data = _unpack(archive, entries[f"{root}data.pkl"], MOST_PICKLED + 1)
        if len(data) > MOST_PICKLED:
            raise InputFileError(f"its pickle is larger than {MOST_PICKLED >> 20} MB")
        order = "little"
        if f"{root}byteorder" in entries:
            order = _unpack(archive, entries[f"{root}byteorder"], 16).decode("ascii")
        if order not in ("little", "big"):
            raise InputFileError(f"its byte order is {order!r}")

    budget = _most_bytes(mapped)
    unpacked: dict[str, bytearray] = {}

    def numbers(of: Storage) -> Tensor:
        entry = entries.get(f"{root}data/{of.key}")
        if entry is None:
            raise ValueError("the file lacks its numbers")
        if entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1:
            start = entry.header_offset
            mark, name, extra = _LOCAL_HEADER.unpack(mapped[start : start + _LOCAL_HEADER.size])
            if mark != b"PK\x03\x04":
                raise ValueError("an entry of the zip file is not where it should be")
            return _bytes(mapped, start + _LOCAL_HEADER.size + name + extra, entry.file_size)
        if of.key not in unpacked:
            if entry.file_size > budget - sum(map(len, unpacked.values())):
                raise ValueError("its compressed numbers are far more than the file")
            with zipfile.ZipFile(path) as archive:
                unpacked[of.key] = bytearray(_unpack(archive, entry, entry.file_size))
        return _bytes(unpacked[of.key], 0, len(unpacked[of.key]))

    return TorchFile(path, _object(io.BytesIO(data)), numbers, budget, order)


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("it is compressed in a way that torch does not know")
    with archive.open(entry) as file:
        return file.read(most)


def _most_bytes(mapped: mmap.mmap) -> int:
    return 4 * len(mapped) + SLACK


def _read_old(path: Path, mapped: mmap.mmap, file: IO[bytes]) -> TorchFile:
    # The pickles come first. Of this second map none can claim more than is allowed.
    start = mmap.mmap(file.fileno(), min(len(mapped), MOST_PICKLED), access=mmap.ACCESS_READ)
    stream = cast("IO[bytes]", start)
    spans: dict[str, tuple[int, int]] = {}
    content = _object(stream)
    plain = type(content) is not int or content != _MAGIC
    if not plain:
        if pickles.read(stream) != _PROTOCOL:
            raise InputFileError("its protocol is not the one of torch.save")
        pickles.read(stream)  # sizes of C types where it was made; the numbers are always little-endian
        storages: dict[str, Storage] = {}
        content = _object(stream, storages)
        spans = _spans(pickles.read(stream), storages, mapped, start.tell())

    def numbers(of: Storage) -> Tensor:
        if plain:
            raise ValueError("a plain pickle holds no tensors; save with torch.save")
        if of.key not in spans:
            raise ValueError("the file lacks its numbers")
        return _bytes(mapped, *spans[of.key])

    return TorchFile(path, content, numbers, _most_bytes(mapped))


def _spans(keys: Any, storages: dict[str, Storage], mapped: mmap.mmap, position: int) -> dict[str, tuple[int, int]]:
    """Offset and length of the storages, which lie one after the other from `position`."""
    if not isinstance(keys, list):
        raise InputFileError("its list of storages is none")
    spans: dict[str, tuple[int, int]] = {}
    for key in keys:
        if key not in storages:
            raise InputFileError("its list of storages does not fit its pickle")
        size = storages[key].size
        count = int.from_bytes(mapped[position : position + 8], "little")
        if count != storages[key].count or key in spans:
            raise InputFileError("it is damaged, or cut short")
        spans[key] = position + 8, size
        position += 8 + size
    if position > len(mapped):
        raise InputFileError("it is cut short")
    return spans


def _object(stream: IO[bytes], storages: dict[str, Storage] | None = None) -> Any:
    """The next pickle, with tensors; its storages are added to `storages`."""

    def persistent(value: Any) -> Any:
        try:
            of = storage(value)
        except (TypeError, ValueError, KeyError):
            return blame(value if isinstance(value, tuple) else (value,), "persistent id of no storage")
        if storages is not None:
            storages.setdefault(of.key, of)
        return of

    return pickles.read(stream, TENSOR_MEANINGS, persistent)


def _bytes(source: mmap.mmap | bytearray, offset: int, count: int) -> Tensor:
    """[count] uint8, sharing memory with `source`."""
    if offset + count > len(source):
        raise ValueError("an entry reaches beyond the end of the file")
    return torch.frombuffer(source, dtype=torch.uint8, offset=offset, count=count)
