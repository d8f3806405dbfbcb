"""An ML program as plain data, read from `model.mlmodel` (field numbers of MIL.proto and Model.proto)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mue_edge.arrays import Array, np
from mue_edge.errors import InputFileError
from mue_edge.targets.mil.blob import PACKED, Blob, unpack
from mue_edge.targets.protobuf import Message, varint

_DTYPES = {
    1: "bool", 2: "string", 10: "float16", 11: "float32", 12: "float64", 13: "bfloat16", 21: "int8",
    22: "int16", 23: "int32", 24: "int64", 25: "int4", 31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64",
    35: "uint4", 36: "uint2", 37: "uint1", 38: "uint6", 39: "uint3",
}  # fmt: skip
# The only layout of pictures that is read here.
_RGB = 20


@dataclass(frozen=True)
class Kind:
    """A declared type: element type ("": no tensor) and shape (None: not known before the run)."""

    dtype: str
    shape: tuple[int | None, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape, with 0 for what is not known."""
        return tuple(size or 0 for size in self.shape)

    @property
    def count(self) -> int:
        """How many values a tensor of that kind has, if its shape is known."""
        return math.prod(self.sizes)


@dataclass(frozen=True)
class Value:
    """A constant: an array, text, or where its blob is; None: of a kind that is not evaluated here."""

    kind: Kind
    data: Array | str | Blob | None


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
    attributes: Mapping[str, Value]

    @property
    def name(self) -> str:
        """That of its first output."""
        return self.outputs[0].name if self.outputs else self.type

    @property
    def reads(self) -> set[str]:
        """Names of the values that it takes."""
        return {name for names in self.inputs.values() for name in names if isinstance(name, str)}

    def stored(self) -> Iterator[Value]:
        """What it takes from the weight file."""
        inputs = (value for values in self.inputs.values() for value in values)
        for value in (*self.attributes.values(), *inputs):
            if isinstance(value, Value) and isinstance(value.data, Blob):
                yield value


@dataclass(frozen=True)
class Function:
    """What can be called: its inputs, the names of its results and its operations, in the order in which they
    run. pictures: the inputs that are given as pictures (8-bit RGB); inside they are grey levels."""

    inputs: tuple[NamedType, ...]
    results: tuple[str, ...]
    operations: tuple[Operation, ...]
    pictures: frozenset[str] = frozenset()

    def kinds(self) -> dict[str, Kind]:
        values = [out for op in self.operations for out in op.outputs]
        return {value.name: value.kind for value in (*values, *self.inputs)}

    def outputs(self) -> tuple[NamedType, ...]:
        """The declared outputs, as the operations that make them say."""
        kinds = self.kinds()
        return tuple(NamedType(name, kinds[name]) for name in self.results)

    def weight_bytes(self) -> int:
        """Bytes of the constants that it takes from the weight file."""
        kinds = [value.kind for op in self.operations for value in op.stored()]
        bits = [PACKED.get(kind.dtype) or np.dtype(kind.dtype).itemsize * 8 for kind in kinds]
        return sum(-(-kind.count * size // 8) for kind, size in zip(kinds, bits))


@dataclass(frozen=True)
class Program:
    """A package's functions. `folder` holds `model.mlmodel`, which "@model_path" stands for."""

    folder: Path
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
    """The program of an `.mlpackage`; without `constants` its operations lack their arguments. Raises
    InputFileError for what is none."""
    path = package_model(package)
    try:
        model = Message(memoryview(path.read_bytes()))
        if 502 not in model:
            raise InputFileError(f"{path} holds no ML program")
        pictures = _pictures(model.messages(2))
        functions = {
            name: _function(function, pictures.get(name, {}), constants)
            for name, function in model.message(502).map(2).items()
        }
        return Program(path.parent, functions)
    except (OSError, IndexError, ValueError, KeyError, TypeError) as problem:
        raise InputFileError(f"{path} is not an ML program: {problem!r}; export it again") from problem


def _pictures(descriptions: list[Message]) -> dict[str, dict[str, tuple[int, int]]]:
    """Function → input that is a picture → its height and width, as the model's description says."""
    pictures = {}
    for description in descriptions:
        pictures["main"] = dict(_picture_sizes(description.messages(1)))
        for function in description.messages(20):
            pictures[function.text(1)] = dict(_picture_sizes(function.messages(2)))
    return pictures


def _picture_sizes(features: list[Message]) -> Iterator[tuple[str, tuple[int, int]]]:
    for feature in features:
        kind = feature.message(3)
        if 4 in kind:
            image = kind.message(4)
            if image.number(3, 0) != _RGB:
                raise ValueError("a picture that is not RGB")
            yield feature.text(1), (image.number(2), image.number(1))


def _function(message: Message, pictures: Mapping[str, tuple[int, int]], constants: bool) -> Function:
    inputs = _named(message.messages(1))
    shapes = {value.name: value.kind.shape for value in inputs}
    for name, size in pictures.items():
        if shapes.get(name) != (1, 3, *size):
            raise ValueError(f"{name} is a picture of {size}, its tensor has the shape {shapes.get(name)}")
    block = message.map(3)[message.text(2)]
    operations = tuple(_operation(operation, constants) for operation in block.messages(3))
    return Function(inputs, block.texts(2), operations, frozenset(pictures))


def _operation(message: Message, constants: bool) -> Operation:
    outputs = _named(message.messages(3))
    if not constants:
        return Operation(message.text(1), {}, outputs, {})
    inputs = {
        name: tuple(m.text(1) if 1 in m else _value(m.message(2)) for m in values.messages(1))
        for name, values in message.map(2).items()
    }
    attributes = {name: _value(value) for name, value in message.map(5).items()}
    return Operation(message.text(1), inputs, outputs, attributes)


def _named(messages: list[Message]) -> tuple[NamedType, ...]:
    return tuple(NamedType(message.text(1), _kind(message.message(2))) for message in messages)


def _kind(message: Message) -> Kind:
    """Lists, tuples, dictionaries and states are none that is read here."""
    if 1 not in message:
        return Kind("")
    tensor = message.message(1)
    return Kind(_DTYPES[tensor.number(1)], tuple(map(_dimension, tensor.messages(3))))


def _dimension(message: Message) -> int | None:
    return message.message(1).number(1, 0) if 1 in message else None


def _value(message: Message) -> Value:
    kind = _kind(message.message(2))
    if 5 in message:
        blob = message.message(5)
        return Value(kind, Blob(blob.text(1), blob.number(2, 0)))
    immediate = message.message(3)
    return Value(kind, _tensor(immediate.message(1), kind) if 1 in immediate else None)


def _tensor(message: Message, kind: Kind) -> Array | str | None:
    """An immediate tensor: repeated numbers by kind of field, halves and small integers as bytes."""
    if kind.dtype == "string":
        return None if kind.shape else message.message(4).text(1)
    field = next(iter(message.fields), 0)
    values = message.message(field)
    if field in (1, 6):
        array = np.frombuffer(b"".join(values.raw(1)), "<f4" if field == 1 else "<f8").astype(kind.dtype)
    elif field == 7:
        octets = np.frombuffer(b"".join(values.raw(1)), np.uint8)
        packed = kind.dtype in PACKED
        array = unpack(octets, kind.dtype, kind.count) if packed else octets.view(kind.dtype)
    else:
        array = np.array(_numbers(values), np.int64).astype(kind.dtype)
    if array.size != kind.count:
        raise ValueError(f"a constant of shape {list(kind.sizes)} holds {array.size} values")
    return array.reshape(kind.sizes)


def _numbers(message: Message) -> list[int]:
    """Packed or single; negative ones are written as 64 bits."""
    numbers = []
    for value in message.fields[1]:
        if isinstance(value, int):
            numbers.append(value)
            continue
        at = 0
        while at < len(value):
            number, at = varint(value, at)
            numbers.append(number)
    return [number - (1 << 64) if number >> 63 else number for number in numbers]
