"""Pickles and torch files written by hand: honest values, with fragments of any instructions between."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

END = b"."


@dataclass(frozen=True, eq=False)
class Raw:
    """Instructions that leave one value on the stack."""

    code: bytes


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def call(function: bytes, *arguments: Any) -> bytes:
    return function + b"(" + b"".join(map(code, arguments)) + b"tR"


def code(value: Any) -> bytes:
    """Instructions that leave `value`; a Tensor is laid out as torch does, stored under its own id."""
    if isinstance(value, Raw):
        return value.code
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return b"}(" + b"".join(code(k) + code(v) for k, v in value.items()) + b"u"
    if isinstance(value, (list, tuple)):
        inner = b"".join(map(code, value))
        return b"(" + inner + b"t" if isinstance(value, tuple) else b"](" + inner + b"e"
    if isinstance(value, Tensor):
        return tensor(value)
    return pickle.dumps(value, protocol=2)[2:-1]


def tensor(value: Tensor, *, storage: Any = None) -> bytes:
    """A contiguous float32 tensor; `storage` in place of its persistent id."""
    if storage is None:
        kind = Raw(name("torch", "FloatStorage"))
        storage = Raw(code(("storage", kind, str(id(value)), "cpu", value.numel())) + b"Q")
    hooks = Raw(call(name("collections", "OrderedDict")))
    function = name("torch._utils", "_rebuild_tensor_v2")
    return call(function, storage, 0, tuple(value.shape), tuple(value.stride()), False, hooks)


def save(path: Path, content: Any, *tensors: Tensor, old: bool = False) -> Path:
    """A file of torch.save, zip or old, with `content` and the storages of the `tensors` that it names."""
    program = b"\x80\x02" + code(content) + END
    ids = {str(id(value)): value for value in tensors}
    blobs = {key: value.numpy().tobytes() for key, value in ids.items() if key.encode() in program}
    if old:
        header = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        parts = [*(pickle.dumps(part, protocol=2) for part in header), program]
        parts.append(pickle.dumps(list(blobs), protocol=2))
        parts += [struct.pack("<Q", len(data) // 4) + data for data in blobs.values()]
        path.write_bytes(b"".join(parts))
        return path
    path.write_bytes(zipped({"a/data.pkl": program, **{f"a/data/{k}": v for k, v in blobs.items()}}))
    return path


def zipped(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for entry, data in entries.items():
            archive.writestr(entry, data)
    return out.getvalue()
