"""`weight.bin`: the constants of an ML program that do not stand in its protobuf.

Version 2 of the format: a header of 64 bytes (count, version), then records. A record, at an offset that the
program gives: u32 magic, u32 data type, u64 bytes, u64 where the data is, u64 bits of padding. Types of less
than a byte are packed, lowest bits first."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

from mue_edge.arrays import Array, np
from mue_edge.errors import InputFileError

_HEADER = struct.Struct("<II")
_RECORD = struct.Struct("<IIQQQ")
_VERSION = 2
_MAGIC = 0xDEADBEEF
# Bits of the integer types that share bytes. A signed one is two's complement.
PACKED = {"uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6, "int4": 4}
# The file's own numbering of types (the program's differs).
_TYPES = {
    1: "float16", 2: "float32", 3: "uint8", 4: "int8", 5: "bfloat16", 6: "int16", 7: "uint16", 8: "int4",
    9: "uint1", 10: "uint2", 11: "uint4", 12: "uint3", 13: "uint6", 14: "int32", 15: "uint32",
}  # fmt: skip


@dataclass(frozen=True)
class Blob:
    """Where a constant lies: its file inside the model's folder, and its record's offset."""

    file: str
    offset: int


def read(folder: Path, blob: Blob, dtype: str, shape: tuple[int, ...]) -> Array:
    """The constant of that declared type, not copied where memory can be mapped. folder: the one of
    `model.mlmodel`. Raises InputFileError for a record that does not hold just that."""
    path = path_inside(folder, blob.file)
    try:
        raw = np.memmap(path, np.uint8, mode="r")
    except (OSError, ValueError) as problem:
        raise InputFileError(f"{path} cannot be read: {problem}; export the bundle again") from problem
    if len(raw) < 64 or _HEADER.unpack(raw[:8].tobytes())[1] != _VERSION:
        raise InputFileError(f"{path} is not a weight file of version {_VERSION}")
    record, where = raw[blob.offset : blob.offset + _RECORD.size].tobytes(), f"{path} at {blob.offset}"
    if len(record) < _RECORD.size:
        raise InputFileError(f"{where}: beyond the end of the file")
    magic, kind, size, start, _ = _RECORD.unpack(record)
    if magic != _MAGIC:
        raise InputFileError(f"{where}: no record begins here")
    if _TYPES.get(kind) != dtype:
        raise InputFileError(f"{where}: holds {_TYPES.get(kind, kind)}, the program says {dtype}")
    count = math.prod(shape)
    wanted = -(-count * PACKED[dtype] // 8) if dtype in PACKED else count * np.dtype(dtype).itemsize
    if size != wanted or start + size > len(raw):
        raise InputFileError(f"{where}: holds {size} bytes, {dtype} {list(shape)} takes {wanted}")
    data = raw[start : start + size]
    values: Array = unpack(data, dtype, count) if dtype in PACKED else data.view(dtype)
    return values.reshape(shape)


def path_inside(folder: Path, name: str) -> Path:
    """The file that a program calls `name` (as in "@model_path/weights/weight.bin"), inside of `folder`."""
    parts = name.split("/")
    if parts[0] != "@model_path" or any(part in ("", ".", "..") or "\\" in part for part in parts):
        raise InputFileError(f"{folder}: takes weights from {name!r}, which is not inside of the package")
    return folder.joinpath(*parts[1:])


def unpack(data: Array, dtype: str, count: int) -> Array:
    """`count` integers of a type of PACKED, or bytes, as int8 or uint8."""
    bits = PACKED.get(dtype, 8)
    single = np.unpackbits(data, bitorder="little")[: count * bits].reshape(count, bits)
    values: Array = (single << np.arange(bits, dtype=np.uint8)).sum(1, dtype=np.uint8)
    if dtype != "int4":
        return values
    signed = values.astype(np.int8)
    return np.where(signed > 7, signed - 16, signed).astype(np.int8)
