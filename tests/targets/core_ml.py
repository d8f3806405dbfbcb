"""Stand-ins of Core ML, backed by the evaluator: coremltools' compiled models, and Objective-C's classes.

Of Objective-C they return what rubicon-objc 0.5.7 gives Python, types included; see `objective_c.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from mue_edge.targets.coreml_objc import DTYPES, Bridge
from mue_edge.targets.mil.evaluator import Evaluator, load
from tests.targets.objective_c import Errors, NSArray, NSNumber, NSString

# Core ML pads rows of what it returns to this many bytes.
ROW = 64


class Compiler:
    """Remembers where a compiled package came from, as the content of its folder."""

    def __init__(self) -> None:
        self.compiled: list[str] = []

    def __call__(self, package: str, out: str) -> None:
        self.compiled.append(Path(package).name)
        Path(out).mkdir()
        (Path(out) / "from").write_text(package)


@cache
def loaded(package: str, function: str) -> Evaluator:
    """A function, kept: a compiled model is loaded once, and reading one takes longer than running it."""
    return load(Path(package), function)


def answers(place: str, function: str | None, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of the package that was compiled to `place`; inputs must have the declared types, pictures uint8."""
    evaluator = loaded((Path(place) / "from").read_text(), function or "main")
    for port in evaluator.function.inputs:
        wanted = "uint8" if port.name in evaluator.function.pictures else port.kind.dtype
        assert inputs[port.name].dtype == wanted, port.name
    found = evaluator({name: torch.from_numpy(x) for name, x in inputs.items()})
    kinds = {out.name: out.kind.dtype for out in evaluator.function.outputs()}
    return {name: value.numpy().astype(kinds[name]) for name, value in found.items()}


def coremltools(compiler: Compiler) -> Any:
    """What `coreml_mac` uses of the package."""

    class CompiledMLModel:
        def __init__(self, path: str, compute_units: str, *, function_name: str | None = None) -> None:
            self.path, self.units, self.function = path, compute_units, function_name

        def predict(self, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
            given = {
                name: np.asarray(x).transpose(2, 0, 1)[None].copy() if isinstance(x, Image.Image) else x
                for name, x in inputs.items()
            }
            return answers(self.path, self.function, given)

    units = SimpleNamespace(ALL="all", CPU_ONLY="cpu", CPU_AND_GPU="gpu", CPU_AND_NE="ane")
    utils = SimpleNamespace(compile_model=compiler)
    return SimpleNamespace(
        ComputeUnit=units, models=SimpleNamespace(CompiledMLModel=CompiledMLModel, utils=utils)
    )


class MultiArray:
    """An MLMultiArray; rows padded if `padded`. `shape` and `strides` are arrays of NSNumbers, `dataType` is
    an NSInteger and `dataPointer` a `void *` (MLMultiArray.h): ints."""

    def __init__(self, shape: list[int], kind: int, *, padded: bool = False) -> None:
        (name,) = (name for name, number in DTYPES.items() if number == kind)
        self._shape, self.dataType, self.dtype = shape, kind, np.dtype(name)
        row = shape[-1] * self.dtype.itemsize
        row += -row % ROW if padded else 0
        steps = [1, row // self.dtype.itemsize]
        for size in shape[-2:0:-1]:
            steps.append(steps[-1] * size)
        self._strides = list(reversed(steps[: len(shape)]))
        self.shape, self.strides = (NSArray(map(NSNumber, ns)) for ns in (shape, self._strides))
        count = self._strides[0] * shape[0] if shape else 1
        self.memory = np.full(max(count, steps[1]), 99, self.dtype)
        self.dataPointer: int = self.memory.ctypes.data

    def view(self) -> np.ndarray:
        steps = [s * self.dtype.itemsize for s in self._strides]
        return np.lib.stride_tricks.as_strided(self.memory, self._shape, steps)


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
        self.buffers: dict[int, np.ndarray] = {}
        self.locked: set[int] = set()
        for name in ("Create", "Release", "LockBaseAddress", "UnlockBaseAddress"):
            setattr(self, f"CVPixelBuffer{name}", getattr(self, f"_{name}"))
        self.CVPixelBufferGetBaseAddress = Returning(lambda buffer: self._locked(buffer).ctypes.data)
        self.CVPixelBufferGetBytesPerRow = Returning(lambda buffer: self._locked(buffer).strides[0])

    def _Create(self, allocator: None, width: Any, height: Any, kind: Any, attributes: None, out: Any) -> int:
        assert kind.value.to_bytes(4, "big") == b"BGRA"
        row = 4 * width.value + ROW - 4 * width.value % ROW
        memory = np.full((height.value, row), 77, np.uint8)
        out._obj.value = id(memory)
        self.buffers[id(memory)] = memory[:, : 4 * width.value]
        return 0

    def _Release(self, buffer: Any) -> None:
        assert buffer.value not in self.locked
        del self.buffers[buffer.value]

    def _LockBaseAddress(self, buffer: Any, flags: Any) -> None:
        self.locked.add(buffer.value)

    def _UnlockBaseAddress(self, buffer: Any, flags: Any) -> None:
        self.locked.remove(buffer.value)

    def _locked(self, buffer: Any) -> np.ndarray:
        assert buffer.value in self.locked
        return self.buffers[buffer.value]

    def picture(self, buffer: Any) -> np.ndarray:
        """[1, 3, H, W] RGB, as a model takes it from a buffer that nobody has locked."""
        assert buffer.value not in self.locked
        rows = self.buffers[buffer.value]
        bgra = rows.reshape(len(rows), -1, 4)
        return bgra[..., 2::-1].transpose(2, 0, 1)[None].copy()


class ObjectiveC:
    """`rubicon.objc.ObjCClass`: classes with exactly the methods that the adapter calls.

    failing: selectors' first words → what Core ML says when it fails there.
    """

    def __init__(self, compiler: Compiler, folder: Path) -> None:
        self.compiler, self.folder, self.configurations = compiler, folder, []
        self.core_video, self.errors = CoreVideo(), Errors()
        self.failing: dict[str, str] = {}

    def bridge(self) -> Bridge:
        return Bridge(self, self.core_video, self.errors.pointer, self.errors.instance)

    def __call__(self, name: str) -> Any:
        return getattr(self, name)()

    def _fails(self, selector: str, error: Any) -> bool:
        """Whether it returns nil, with an error at the address that it got."""
        if selector in self.failing:
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
            return SimpleNamespace(view=partial(np.copy, self.core_video.picture(buffer)))

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
                inputs = {name: np.array(x.view()) for name, x in features.items()}
                made = {}
                for name, value in answers(str(url.path), configuration.functionName, inputs).items():
                    made[name] = MultiArray(list(value.shape), DTYPES[value.dtype.name], padded=True)
                    made[name].view()[...] = value
                feature = lambda name: SimpleNamespace(multiArrayValue=made[name])
                return SimpleNamespace(featureValueForName=feature)

            if self._fails("modelWithContentsOfURL", error):
                return None
            return SimpleNamespace(predictionFromFeatures=predict)

        return SimpleNamespace(compileModelAtURL=compile_model, modelWithContentsOfURL=model)
