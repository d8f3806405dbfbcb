"""Core ML on an iPhone as rubicon-objc shows it to Python: classes with exactly the methods that the adapter
calls, on plain memory, without NumPy.

Objects are as rubicon-objc 0.5.7 hands them to Python (its `api.py` and `collections.py`, read).

A method that returns a C number gives an int or a float. One that returns an object gives an `ObjCInstance`,
which has no number, length or text of its own; NSNumber stays one (only `py_from_ns` converts it), so `int`
of it is a TypeError. An NSArray can be indexed and iterated, and its items are such objects. An NSString has
`str`. Properties are read as attributes, as `py_from_ns` reads NSNumber's `longLongValue`. An `NSError **` is
given as `byref` of an `objc_id`, whose object `ObjCInstance` makes.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mue_edge.targets.coreml.objc import DTYPES, CoreMLBridge

# Core ML pads rows of what it returns to this many bytes.
ROW = 64
SIZES = {"float16": 2, "float32": 4, "int32": 4}
Tensor = tuple[str, tuple[int, ...], bytes]
# Compiled model, function, inputs by name → outputs by name.
Answers = Callable[[str, str | None, dict[str, Tensor]], dict[str, Tensor]]


class NSNumber:
    """No int: no `__int__`, `__index__`, arithmetic, or equality with numbers."""

    def __init__(self, value: int) -> None:
        self.longLongValue = value


class NSArray:
    """`ObjCListInstance`: a sequence of objects, but no list."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = tuple(items)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        return self._items[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)


class NSString:
    """`ObjCStrInstance`: text by `str`, and no str itself."""

    def __init__(self, text: object) -> None:
        self._text = str(text)

    def __str__(self) -> str:
        return self._text


class Errors:
    """`objc_id` and `ObjCInstance`, of errors."""

    pointer = ctypes.c_void_p  # rubicon's own type derives from it

    def __init__(self) -> None:
        self._made: list[Any] = []

    def at(self, address: Any, text: str) -> None:
        """Leave an NSError there, as a method that fails does."""
        self._made.append(SimpleNamespace(localizedDescription=NSString(text)))
        address._obj.value = len(self._made)

    def instance(self, pointer: Any) -> Any:
        return self._made[pointer.value - 1]


class Compiler:
    """Remembers where a compiled package came from, as the content of its folder."""

    def __init__(self) -> None:
        self.compiled: list[str] = []

    def __call__(self, package: str, out: str) -> None:
        self.compiled.append(Path(package).name)
        Path(out).mkdir()
        (Path(out) / "from").write_text(package)


class MultiArray:
    """An MLMultiArray; rows padded if `padded`. `shape` and `strides` are arrays of NSNumbers, `dataType` is
    an NSInteger and `dataPointer` a `void *` (MLMultiArray.h): ints."""

    def __init__(self, shape: Iterable[int], kind: int, *, padded: bool = False) -> None:
        (self.dtype,) = (name for name, number in DTYPES.items() if number == kind)
        self._shape, self.dataType, item = tuple(shape), kind, SIZES[self.dtype]
        row = (self._shape[-1] if self._shape else 1) * item
        steps = [1, (row + (-row % ROW if padded else 0)) // item]
        for size in self._shape[-2:0:-1]:
            steps.append(steps[-1] * size)
        strides = steps[: len(self._shape)][::-1]
        self.shape, self.strides = (NSArray(map(NSNumber, ns)) for ns in (self._shape, strides))
        self._rows, self._row = [0], row
        for size, stride in zip(self._shape[:-1], strides):
            self._rows = [start + i * stride * item for start in self._rows for i in range(size)]
        self._memory = ctypes.create_string_buffer(b"c" * (self._rows[-1] + row + ROW))
        self.dataPointer: int = ctypes.addressof(self._memory)

    def tensor(self) -> Tensor:
        return self.dtype, self._shape, b"".join(self._memory[at : at + self._row] for at in self._rows)

    def write(self, raw: bytes) -> None:
        for i, at in enumerate(self._rows):
            self._memory[at : at + self._row] = raw[i * self._row : (i + 1) * self._row]


class Returning:
    """A function of a C library: ctypes takes what it returns for an int unless it is told another type."""

    def __init__(self, call: Callable[[Any], int]) -> None:
        self.call, self.restype = call, ctypes.c_int

    def __call__(self, argument: Any) -> int:
        assert self.restype is not ctypes.c_int, "an address would be cut to 32 bits"
        return self.call(argument)


class CoreVideo:
    """The functions of Core Video that the adapter calls, on buffers whose rows are padded."""

    def __init__(self) -> None:
        self.buffers: dict[int, Any] = {}  # address → memory
        self.sizes: dict[int, tuple[int, int, int]] = {}  # height, width, bytes a row
        self.locked: set[int] = set()
        for name in ("Create", "Release", "LockBaseAddress", "UnlockBaseAddress"):
            setattr(self, f"CVPixelBuffer{name}", getattr(self, f"_{name}"))
        self.CVPixelBufferGetBaseAddress = Returning(lambda buffer: self._locked(buffer))
        self.CVPixelBufferGetBytesPerRow = Returning(lambda buffer: self.sizes[self._locked(buffer)][2])

    def _Create(self, allocator: None, width: Any, height: Any, kind: Any, attributes: None, out: Any) -> int:
        assert kind.value.to_bytes(4, "big") == b"BGRA"
        row = 4 * width.value + ROW - 4 * width.value % ROW
        memory = ctypes.create_string_buffer(b"M" * (height.value * row), height.value * row)
        out._obj.value = ctypes.addressof(memory)
        self.buffers[out._obj.value] = memory
        self.sizes[out._obj.value] = height.value, width.value, row
        return 0

    def _Release(self, buffer: Any) -> None:
        assert buffer.value not in self.locked
        del self.buffers[buffer.value]

    def _LockBaseAddress(self, buffer: Any, flags: Any) -> None:
        self.locked.add(buffer.value)

    def _UnlockBaseAddress(self, buffer: Any, flags: Any) -> None:
        self.locked.remove(buffer.value)

    def _locked(self, buffer: Any) -> int:
        assert buffer.value in self.locked
        address: int = buffer.value
        return address

    def picture(self, buffer: Any) -> Tensor:
        """[1, 3, H, W] RGB, as a model takes it from a buffer that nobody has locked."""
        assert buffer.value not in self.locked
        height, width, row = self.sizes[buffer.value]
        lines = [self.buffers[buffer.value][y * row : y * row + 4 * width] for y in range(height)]
        bgra = b"".join(lines)
        assert not struct.unpack(f"{height * width * 4}B", bgra)[3::4].count(0), "opaque"
        return "uint8", (1, 3, height, width), b"".join(bgra[channel::4] for channel in (2, 1, 0))


class ObjectiveC:
    """`rubicon.objc.ObjCClass`: classes with exactly the methods that the adapter calls.

    failing: selectors' first words → what Core ML says when it fails there, or "" if it says nothing.
    """

    def __init__(self, compiler: Compiler, folder: Path, answers: Answers) -> None:
        self.compiler, self.folder, self.answers = compiler, folder, answers
        self.configurations: list[Any] = []
        self.core_video, self.errors = CoreVideo(), Errors()
        self.failing: dict[str, str] = {}

    def bridge(self) -> CoreMLBridge:
        return CoreMLBridge(self, self.core_video, self.errors.pointer, self.errors.instance)

    def __call__(self, name: str) -> Any:
        return getattr(self, name)()

    def _fails(self, selector: str, error: Any) -> bool:
        """Whether it returns nil, with an error at the address that it got."""
        if self.failing.get(selector):
            self.errors.at(error, self.failing[selector])
        return selector in self.failing

    def NSURL(self) -> Any:
        return SimpleNamespace(fileURLWithPath=lambda path: SimpleNamespace(path=NSString(path)))

    def MLModelConfiguration(self) -> Any:
        def init() -> Any:
            self.configurations.append(SimpleNamespace(computeUnits=2, functionName=None))
            return self.configurations[-1]

        return SimpleNamespace(alloc=lambda: SimpleNamespace(init=init))

    def MLMultiArray(self) -> Any:
        def make(shape: list[int], *, dataType: int, error: Any) -> MultiArray | None:
            return None if self._fails("initWithShape", error) else MultiArray(shape, dataType)

        return SimpleNamespace(alloc=lambda: SimpleNamespace(initWithShape=make))

    def MLFeatureValue(self) -> Any:
        def with_buffer(buffer: Any) -> Any:
            return SimpleNamespace(tensor=partial(tuple, self.core_video.picture(buffer)))

        return SimpleNamespace(featureValueWithPixelBuffer=with_buffer)

    def MLDictionaryFeatureProvider(self) -> Any:
        return SimpleNamespace(alloc=lambda: SimpleNamespace(initWithDictionary=lambda d, *, error: d))

    def MLModel(self) -> Any:
        def compile_model(url: Any, *, error: Any) -> Any:
            if self._fails("compileModelAtURL", error):
                return None
            place = self.folder / f"{len(self.compiler.compiled)}.mlmodelc"
            self.compiler(str(url.path), str(place))
            return SimpleNamespace(path=NSString(place))

        def model(url: Any, *, configuration: Any, error: Any) -> Any:
            def predict(features: dict[str, MultiArray], *, error: Any) -> Any:
                if self._fails("predictionFromFeatures", error):
                    return None
                inputs = {name: x.tensor() for name, x in features.items()}
                made = {}
                found = self.answers(str(url.path), configuration.functionName, inputs)
                for name, (dtype, shape, raw) in found.items():
                    made[name] = MultiArray(shape, DTYPES[dtype], padded=True)
                    made[name].write(raw)
                feature = lambda name: SimpleNamespace(multiArrayValue=made[name])
                return SimpleNamespace(featureValueForName=feature)

            if self._fails("modelWithContentsOfURL", error):
                return None
            return SimpleNamespace(predictionFromFeatures=predict)

        return SimpleNamespace(compileModelAtURL=compile_model, modelWithContentsOfURL=model)
