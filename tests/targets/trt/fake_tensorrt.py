"""A stand-in for `tensorrt`: exactly the calls that the adapter makes. An engine is the ONNX file that it was
built from, run by ONNX Runtime when the virtual stream gets to it, on the memory that its addresses say by
then.

Raises `Misuse` for a port without an address, an output over an input, a context without or with too little
memory, a capture before the first plain run. While it runs, it overwrites all of the memory that contexts
share.

Returned types are those of TensorRT's Python bindings (python/src of NVIDIA/TensorRT, 10.3): IHostMemory can
be copied into bytes but is none, Dims is a sequence but no tuple, a tensor's type is a DataType.
"""

from __future__ import annotations

import ctypes
import json
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from mue_edge.targets.host import AS_WRITTEN
from tests.targets.trt.fake_cuda import POISON, FakeCuda, Misuse, Stream

_SESSIONS: dict[str, Any] = {}


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        pass

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class DataType(IntEnum):
    FLOAT = 0
    HALF = 1
    INT64 = 8


_DTYPES = {"tensor(float)": DataType.FLOAT, "tensor(float16)": DataType.HALF, "tensor(int64)": DataType.INT64}


class HostMemory:
    """IHostMemory. What bytes() does to it, a buffer does there."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self.nbytes = raw, len(raw)

    def __bytes__(self) -> bytes:
        return self._raw


class Dims:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def __len__(self) -> int:
        return len(self._shape)

    def __getitem__(self, i: int) -> int:
        return self._shape[i]


class ExecutionContextAllocationStrategy(IntEnum):
    STATIC = 0
    USER_MANAGED = 2


def nptype(dtype: DataType) -> Any:
    return {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT64: np.int64}[dtype]


@dataclass
class TimingCache:
    known: set[str]

    def serialize(self) -> HostMemory:
        return HostMemory(json.dumps(sorted(self.known)).encode())


@dataclass
class Config:
    cache: TimingCache = field(default_factory=lambda: TimingCache(set()))
    workspace: int | None = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, limit: int) -> None:
        self.workspace = limit

    def create_timing_cache(self, raw: bytes) -> TimingCache:
        return TimingCache(set(json.loads(raw)) if raw else set())

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return True

    def get_timing_cache(self) -> TimingCache:
        return self.cache


class FakeTensorRT:
    """The module. `refuse`: what `build_serialized_network` complains of; `timed`: files whose kernels were
    timed because the timing cache did not know them."""

    ILogger = ILogger
    NetworkDefinitionCreationFlag = NetworkDefinitionCreationFlag
    MemoryPoolType = MemoryPoolType
    ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy
    nptype = staticmethod(nptype)

    def __init__(self, cuda: FakeCuda, version: str = "10.3.0") -> None:
        self.cuda, self.__version__ = cuda, version
        self.refuse = ""
        self.built: list[str] = []
        self.timed: list[str] = []
        self.workspaces: list[int | None] = []
        self.uncapturable = False

    def Builder(self, logger: ILogger) -> Any:
        return _Builder(self, logger)

    def OnnxParser(self, network: dict[str, Any], logger: ILogger) -> Any:
        return _Parser(network)

    def Runtime(self, logger: ILogger) -> Any:
        return _Runtime(self, logger)


@dataclass
class _Builder:
    trt: FakeTensorRT
    logger: ILogger

    def create_network(self, flags: int) -> dict[str, Any]:
        if flags != 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED:
            raise Misuse("the network is not strongly typed")
        return {}

    def create_builder_config(self) -> Config:
        return Config()

    def build_serialized_network(self, network: dict[str, Any], config: Config) -> HostMemory | None:
        if self.trt.refuse:
            self.logger.log(ILogger.ERROR, self.trt.refuse)
            return None
        path = network["path"]
        # Layers of one stack have the same kernels: the file's kind stands for them.
        kernels = Path(path).name.partition(".")[0]
        if kernels not in config.cache.known:
            self.trt.timed.append(Path(path).name)
            config.cache.known.add(kernels)
        self.trt.built.append(Path(path).name)
        self.trt.workspaces.append(config.workspace)
        made = {"path": path, "version": self.trt.__version__, "sm": list(self.trt.cuda.sm)}
        return HostMemory(json.dumps(made).encode())


class _Parser:
    def __init__(self, network: dict[str, Any]) -> None:
        self.network = network
        self.num_errors = 1

    def parse_from_file(self, path: str) -> bool:
        self.network["path"] = path
        return Path(path).is_file()

    def get_error(self, i: int) -> Any:
        class Error:
            def desc(self) -> str:
                return "no such file"

        return Error()


@dataclass
class _Runtime:
    trt: FakeTensorRT
    logger: ILogger

    def deserialize_cuda_engine(self, raw: bytes) -> _Engine | None:
        made = json.loads(raw)
        if (made["version"], made["sm"]) != (self.trt.__version__, list(self.trt.cuda.sm)):
            raise Misuse("an engine of another TensorRT or GPU reached TensorRT")
        return _Engine(self.trt, made["path"])


class _Engine:
    def __init__(self, trt: FakeTensorRT, path: str) -> None:
        self.trt, self.path = trt, path
        if path not in _SESSIONS:
            options = ort.SessionOptions()
            options.log_severity_level, options.intra_op_num_threads = 3, 1
            options.add_session_config_entry(*AS_WRITTEN)
            _SESSIONS[path] = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.session = _SESSIONS[path]
        entries = (*self.session.get_inputs(), *self.session.get_outputs())
        self.dtypes = {e.name: _DTYPES[e.type] for e in entries}
        self.ports = {e.name: (tuple(e.shape), np.dtype(nptype(_DTYPES[e.type])).name) for e in entries}
        self.inputs = [e.name for e in self.session.get_inputs()]
        # Every engine needs another amount.
        self.device_memory_size_v2 = 256 + len(path) * 8

    @property
    def num_io_tensors(self) -> int:
        return len(self.ports)

    def get_tensor_name(self, i: int) -> str:
        return list(self.ports)[i]

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims(self.ports[name][0])

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.dtypes[name]

    def create_execution_context(self, strategy: ExecutionContextAllocationStrategy) -> _Context:
        if strategy != ExecutionContextAllocationStrategy.USER_MANAGED:
            raise Misuse("the context brings memory of its own")
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.workspace = (0, 0)
        self.warm = False

    def set_device_memory(self, pointer: int, size: int) -> None:
        if size < self.engine.device_memory_size_v2:
            raise Misuse("the memory for execution is too small")
        self.workspace = (pointer, size)

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        if name not in self.engine.ports:
            return False
        self.addresses[name] = pointer
        return True

    def execute_async_v3(self, handle: int) -> bool:
        engine, cuda = self.engine, self.engine.trt.cuda
        stream: Stream = cuda.streams[handle]
        missing = set(engine.ports) - set(self.addresses)
        if missing:
            raise Misuse(f"ports without an address: {sorted(missing)}")
        if not self.workspace[1]:
            raise Misuse("a context without memory for execution")
        if stream.captured is not None and not self.warm:
            raise Misuse("captured before the first run")
        if stream.captured is not None and engine.trt.uncapturable:
            return False
        addresses = dict(self.addresses)  # what later calls set does not count
        spans = {name: (addresses[name], addresses[name] + _bytes(*engine.ports[name])) for name in engine.ports}
        for out in set(engine.ports) - set(engine.inputs):
            for name, (first, end) in spans.items():
                if name != out and first < spans[out][1] and spans[out][0] < end:
                    raise Misuse(f"output {out} lies over {name}")

        def run() -> None:
            workspace = cuda.memory(*self.workspace)
            ctypes.memset(workspace, POISON, self.workspace[1])
            feeds = {name: _array(cuda, addresses[name], *engine.ports[name]).copy() for name in engine.inputs}
            names = [name for name in engine.ports if name not in engine.inputs]
            for name, value in zip(names, engine.session.run(names, feeds)):
                _array(cuda, addresses[name], *engine.ports[name])[...] = value

        self.warm = True
        cuda.enqueue(stream, Path(engine.path).name.removesuffix(".onnx"), run)
        return True


def _bytes(shape: tuple[int, ...], dtype: str) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _array(cuda: FakeCuda, pointer: int, shape: tuple[int, ...], dtype: str) -> Any:
    return np.frombuffer(cuda.memory(pointer, _bytes(shape, dtype)), np.dtype(dtype)).reshape(shape)
