"""An ML program as plain data, read from `model.mlmodel` (field numbers of MIL.proto and Model.proto).

A program has functions; a function a block; a block operations, each with named arguments, declared outputs
and perhaps blocks of its own.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mue_edge.arrays import Array, np
from mue_edge.errors import InputFileError
from mue_edge.targets.mil.blob import PACKED, Blob, unpack
from mue_edge.targets.protobuf import Field, fields, varint

_DTYPES = {
    1: "bool", 2: "string", 10: "float16", 11: "float32", 12: "float64", 13: "bfloat16", 21: "int8",
    22: "int16", 23: "int32", 24: "int64", 25: "int4", 31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64",
    35: "uint4", 36: "uint2", 37: "uint1", 38: "uint6", 39: "uint3",
}  # fmt: skip
_DEEPEST = 32
# The only layout of pictures that is read here.
_RGB = 20


@dataclass(frozen=True)
class Kind:
    """A declared type: element type and shape (None: not known before the run); "list", "tuple" and "state"
    where it is no plain tensor."""

    dtype: str
    shape: tuple[int | None, ...] = ()
    container: str = "tensor"


@dataclass(frozen=True)
class Value:
    """A constant: an array, text, where its blob is, or several values."""

    kind: Kind
    data: Array | str | tuple[str, ...] | Blob | tuple[Value, ...]


@dataclass(frozen=True)
class NamedType:
    """An input or output."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Operation:
    """`inputs`: parameter → names of values, or constants; one that takes several has several."""

    type: str
    inputs: Mapping[str, tuple[str | Value, ...]]
    outputs: tuple[NamedType, ...]
    blocks: tuple[Block, ...]
    attributes: Mapping[str, Value]

    @property
    def name(self) -> str:
        """That of its first output."""
        return self.outputs[0].name if self.outputs else self.type


@dataclass(frozen=True)
class Block:
    """Operations in the order in which they run."""

    inputs: tuple[NamedType, ...]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Function:
    """What can be called: its inputs, its operation set ("CoreML8" is that of iOS 18) and its block.

    pictures: those of its inputs that are given as pictures (8-bit RGB); inside they are grey levels.
    """

    inputs: tuple[NamedType, ...]
    opset: str
    block: Block
    pictures: frozenset[str] = frozenset()

    def outputs(self) -> tuple[NamedType, ...]:
        """The declared outputs, as the operations that make them say."""
        made = {out.name: out for op in self.block.operations for out in op.outputs}
        made |= {given.name: given for given in self.inputs}
        return tuple(made[name] for name in self.block.outputs)


@dataclass(frozen=True)
class Program:
    """A package's functions. `folder` holds `model.mlmodel`, which "@model_path" stands for."""

    folder: Path
    specification: int
    functions: Mapping[str, Function]


def package_model(package: Path) -> Path:
    """The `model.mlmodel` of an `.mlpackage`, as its Manifest.json says. Raises InputFileError."""
    try:
        manifest = json.loads((package / "Manifest.json").read_text(encoding="utf-8"))
        path = Path(manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"])
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise InputFileError(f"{package} is not an ML package: {problem!r}; export it again") from problem
    if path.is_absolute() or ".." in path.parts:
        raise InputFileError(f"{package}: names {path}, which is not inside of it")
    return package / "Data" / path


def read(package: Path, *, constants: bool = True) -> Program:
    """The program of an `.mlpackage`; without `constants` its operations lack their arguments, which leaves
    what functions take and give. Raises InputFileError for what is none."""
    path = package_model(package)
    try:
        model = _grouped(memoryview(path.read_bytes()))
        if 502 not in model:
            raise InputFileError(f"{path} holds no ML program")
        program = _grouped(_message(model[502][-1]))
        pictures = _pictures(model[2])
        functions = {
            name: _function(f, pictures.get(name, {}), constants) for name, f in _map(program[2]).items()
        }
        return Program(path.parent, _number(model[1][-1]), functions)
    except (OSError, IndexError, ValueError, KeyError, TypeError) as problem:
        raise InputFileError(f"{path} is not an ML program: {problem!r}; export it again") from problem


Grouped = defaultdict[int, list[Field]]


def _grouped(data: memoryview) -> Grouped:
    found: Grouped = defaultdict(list)
    for number, value in fields(data):
        found[number].append(value)
    return found


def _message(value: Field) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def _number(value: Field) -> int:
    if not isinstance(value, int):
        raise ValueError("a message where a number belongs")
    return value


def _text(value: Field) -> str:
    return bytes(_message(value)).decode("utf-8")


def _map(entries: list[Field]) -> dict[str, memoryview]:
    pairs = (_grouped(_message(entry)) for entry in entries)
    return {_text(pair[1][-1]): _message(pair[2][-1]) for pair in pairs}


def _pictures(descriptions: list[Field]) -> dict[str, dict[str, tuple[int, int]]]:
    """Function → input that is a picture → its height and width, as the model's description says."""
    found = {}
    for description in map(_grouped, map(_message, descriptions)):
        found["main"] = dict(_sizes(description[1]))
        for function in map(_grouped, map(_message, description[20])):
            found[_text(function[1][-1])] = dict(_sizes(function[2]))
    return found


def _sizes(features: list[Field]) -> Iterator[tuple[str, tuple[int, int]]]:
    for feature in map(_grouped, map(_message, features)):
        kind = _grouped(_message(feature[3][-1]))
        if 4 in kind:
            image = _grouped(_message(kind[4][-1]))
            if not image[3] or image[3][-1] != _RGB:
                raise ValueError("a picture that is not RGB")
            yield _text(feature[1][-1]), (_number(image[2][-1]), _number(image[1][-1]))


def _function(data: memoryview, pictures: Mapping[str, tuple[int, int]], constants: bool) -> Function:
    message = _grouped(data)
    opset = _text(message[2][-1])
    blocks = _map(message[3])
    inputs = tuple(map(_named, message[1]))
    shapes = {given.name: given.kind.shape for given in inputs}
    for name, size in pictures.items():
        if shapes.get(name) != (1, 3, *size):
            raise ValueError(f"{name} is a picture of {size}, its tensor has the shape {shapes.get(name)}")
    return Function(inputs, opset, _block(blocks[opset], 0, constants), frozenset(pictures))


def _block(data: Field, depth: int, constants: bool) -> Block:
    if depth > _DEEPEST:
        raise ValueError("blocks are nested too deeply")
    message = _grouped(_message(data))
    operations = tuple(_operation(op, depth, constants) for op in message[3])
    return Block(tuple(map(_named, message[1])), tuple(map(_text, message[2])), operations)


def _operation(data: Field, depth: int, constants: bool) -> Operation:
    message = _grouped(_message(data))
    outputs = tuple(map(_named, message[3]))
    if not constants:
        return Operation(_text(message[1][-1]), {}, outputs, (), {})
    inputs = {
        name: tuple(map(_binding, _grouped(argument)[1])) for name, argument in _map(message[2]).items()
    }
    attributes = {name: _value(value) for name, value in _map(message[5]).items()}
    blocks = tuple(_block(block, depth + 1, constants) for block in message[4])
    return Operation(_text(message[1][-1]), inputs, outputs, blocks, attributes)


def _binding(data: Field) -> str | Value:
    message = _grouped(_message(data))
    return _text(message[1][-1]) if 1 in message else _value(_message(message[2][-1]))


def _named(data: Field) -> NamedType:
    message = _grouped(_message(data))
    return NamedType(_text(message[1][-1]), _kind(message[2][-1]))


def _kind(data: Field) -> Kind:
    message = _grouped(_message(data))
    if 1 in message:
        tensor = _grouped(_message(message[1][-1]))
        shape = tuple(_dimension(dimension) for dimension in tensor[3])
        return Kind(_DTYPES[_number(tensor[1][-1])], shape)
    for number, container in ((2, "list"), (3, "tuple"), (5, "state")):
        if number in message:
            inner = _grouped(_message(message[number][-1]))
            first = _kind(inner[1][-1]) if 1 in inner else Kind("")
            return Kind(first.dtype, first.shape, container)
    raise ValueError("a value of no known type")


def _dimension(data: Field) -> int | None:
    message = _grouped(_message(data))
    if 1 not in message:
        return None
    sizes = _grouped(_message(message[1][-1]))[1]
    return _number(sizes[-1]) if sizes else 0


def _value(data: memoryview, depth: int = 0) -> Value:
    if depth > _DEEPEST:
        raise ValueError("values are nested too deeply")
    message = _grouped(data)
    kind = _kind(message[2][-1])
    if 5 in message:
        blob = _grouped(_message(message[5][-1]))
        return Value(kind, Blob(_text(blob[1][-1]), _number(blob[2][-1]) if blob[2] else 0))
    immediate = _grouped(_message(message[3][-1]))
    if 1 in immediate:
        return Value(kind, _tensor(_message(immediate[1][-1]), kind))
    inner = _grouped(_message((immediate[2] or immediate[3])[-1]))
    return Value(kind, tuple(_value(_message(v), depth + 1) for v in inner[1]))


def _tensor(data: memoryview, kind: Kind) -> Array | str | tuple[str, ...]:
    """An immediate tensor: repeated numbers by kind of field, halves and small integers as bytes."""
    message = _grouped(data)
    if kind.dtype == "string":
        texts = tuple(_text(t) for t in _grouped(_message(message[4][-1]))[1])
        return texts if kind.shape else texts[0]
    field = next(iter(message))
    values = _grouped(_message(message[field][-1]))[1]
    shape, wanted = tuple(size or 0 for size in kind.shape), count(kind)
    if field in (1, 6):
        raw = b"".join(bytes(_message(v)) for v in values)
        array = np.frombuffer(raw, "<f4" if field == 1 else "<f8").astype(kind.dtype)
    elif field == 7:
        raw = b"".join(bytes(_message(v)) for v in values)
        packed = kind.dtype in PACKED
        octets = np.frombuffer(raw, np.uint8)
        array = unpack(octets, kind.dtype, wanted) if packed else octets.view(kind.dtype)
    else:
        array = np.array(_numbers(values), np.int64).astype(kind.dtype)
    if array.size != wanted:
        raise ValueError(f"a constant of shape {list(shape)} holds {array.size} values")
    return array.reshape(shape)


def _numbers(values: list[Field]) -> list[int]:
    """Packed or single; negative ones are written as 64 bits."""
    found = []
    for value in values:
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            number, at = varint(value, at)
            found.append(number)
    return [number - (1 << 64) if number >> 63 else number for number in found]


def stored(operation: Operation) -> Iterator[Value]:
    """What an operation takes from the weight file."""
    bound = (value for values in operation.inputs.values() for value in values)
    for value in (*operation.attributes.values(), *bound):
        if isinstance(value, Value) and isinstance(value.data, Blob):
            yield value


def weight_bytes(function: Function) -> int:
    """Of the constants that a function takes from the weight file."""
    return sum(
        -(-count(value.kind) * _bits(value.kind.dtype) // 8)
        for op in function.block.operations
        for value in stored(op)
    )


def count(kind: Kind) -> int:
    """How many values a tensor of that kind has, if its shape is known."""
    return int(np.prod([size or 0 for size in kind.shape], dtype=np.int64))


def _bits(dtype: str) -> int:
    return PACKED.get(dtype) or np.dtype(dtype).itemsize * 8
