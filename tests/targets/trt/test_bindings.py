"""The adapter's CUDA calls, and the stand-in for them, against the real libraries, which load without a GPU:
cuda-bindings of CUDA 12 and 13, and libcudart through ctypes.

pip fetches them once into the user's cache; where it cannot, these tests are skipped and say so.
"""

from __future__ import annotations

import ast
import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mue_edge.errors import EnvironmentLacksError, UsageError
from mue_edge.files import user_cache
from mue_edge.targets.trt import cuda, cudart
from mue_edge.targets.trt.cuda import Cuda
from tests.targets.trt import fake_cuda, without_gpu
from tests.targets.trt.conftest import Board
from tests.targets.trt.fake_cuda import FakeCuda

ROOT = Path(__file__).parents[3]
# The user's own, not the folder that each test gets for it.
KEPT = user_cache() / "tests"
PATHFINDER = "cuda-pathfinder==1.9.1"
BINDINGS = ["cuda-bindings==12.9.10", "cuda-bindings==13.5.0"]
# Of JetPack 6.2 and of JetPack 7.0.
LIBRARIES = ["nvidia-cuda-runtime-cu12==12.6.77", "nvidia-cuda-runtime==13.0.96"]
NAMES = {name for name in vars(FakeCuda) if name.startswith("cuda") and callable(getattr(FakeCuda, name))} - {
    "cudaMemcpyKind",
    "cudaStreamCaptureMode",
}
# What CUDA's header calls a type → how ctypes passes it: enums as int, handles as pointers.
C_TYPES: dict[str, Any] = {
    "int": ctypes.c_int, "unsigned int": ctypes.c_uint, "size_t": ctypes.c_size_t,
    "unsigned long long": ctypes.c_ulonglong,
    **dict.fromkeys(("cudaMemcpyKind", "cudaStreamCaptureMode", "cudaDeviceAttr"), ctypes.c_int),
    **dict.fromkeys(("cudaStream_t", "cudaEvent_t", "cudaGraph_t", "cudaGraphExec_t"), ctypes.c_void_p),
}  # fmt: skip
# The stand-in's types → the types that the bindings document.
TYPES = {
    int: ("int", "Any"), fake_cuda.Stream: ("cudaStream_t",), fake_cuda.Event: ("cudaEvent_t",),
    fake_cuda.Graph: ("cudaGraph_t",), fake_cuda.GraphExec: ("cudaGraphExec_t",),
    fake_cuda.Properties: ("cudaDeviceProp",),
}  # fmt: skip


def fetched(requirement: str) -> Path:
    """The package's files, without what it depends on."""
    folder = KEPT / requirement
    if not folder.is_dir():
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT) as work:
            made = Path(work) / "made"
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
            pip += ["--retries", "0", "--timeout", "10", "--target", str(made), requirement]
            try:
                subprocess.run(pip, capture_output=True, text=True, timeout=120, check=True)
            except subprocess.CalledProcessError as problem:
                why = ["no reason given", *problem.stderr.strip().splitlines()]
                pytest.skip(f"pip cannot fetch {requirement}, so it was not compared: {why[-1]}")
            except subprocess.TimeoutExpired:
                pytest.skip(f"pip takes over two minutes for {requirement}, so it was not compared")
            if not folder.is_dir():
                made.rename(folder)
    return folder


class Recorder:
    """The stand-in, with a record of every call: arguments as `without_gpu` takes them, values returned."""

    def __init__(self, made: FakeCuda) -> None:
        self.made, self.calls = made, dict[str, tuple[list[Any], list[Any]]]()
        self.__name__ = made.__name__

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.made, name)
        if name not in NAMES:
            return found

        def call(*arguments: Any) -> Any:
            returned = found(*arguments)
            self.calls[name] = ([_described(a) for a in arguments], list(returned[1:]))
            return returned

        return call


def _described(value: Any) -> Any:
    if isinstance(value, (fake_cuda.cudaMemcpyKind, fake_cuda.cudaStreamCaptureMode)):
        return ["member", type(value).__name__, value.name]
    return int(value) if isinstance(value, int) else ["handle", TYPES[type(value)][0]]


@pytest.fixture
def recorded(board: Board, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[list[Any], list[Any]]]:
    """What every method of `Cuda` asks of the library."""
    rt = Recorder(board.cuda)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", rt)  # type: ignore[misc]
    monkeypatch.setenv(cuda.CHOICE, "spin")
    made = Cuda()
    made.gpu(), made.free_memory()
    stream, event = made.stream(), made.event()
    device, pinned = made.malloc(64), made.pinned(64)
    made.upload(device, pinned, 64, stream)
    made.zero(device, 64, stream)
    made.download(pinned, device, 64, stream)
    made.call("cudaEventRecord", event, stream)
    made.call("cudaEventSynchronize", event)
    made.begin_capture(stream)
    made.copy_rows(device, 16, device + 32, 16, 16, 2, stream)
    graph = made.end_capture(stream)
    made.call("cudaGraphLaunch", graph, stream)
    made.call("cudaStreamSynchronize", stream)
    made.call("cudaGraphExecDestroy", graph)
    made.call("cudaEventDestroy", event)
    made.call("cudaStreamDestroy", stream)
    made.call("cudaFree", device)
    made.call("cudaFreeHost", pinned)
    return rt.calls


def answered(source: str, path: list[Path], calls: dict[str, tuple[list[Any], list[Any]]]) -> Any:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))}
    asked = json.dumps({name: arguments for name, (arguments, _) in calls.items()})
    done = subprocess.run(
        [sys.executable, without_gpu.__file__, source],
        input=asked,
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_stand_in_and_ctypes_have_just_the_calls_that_the_adapter_makes(
    recorded: dict[str, tuple[list[Any], list[Any]]],
) -> None:
    sources = Path(cuda.__file__).parent.glob("*.py")
    made = {
        node.args[0].value
        for node in (node for file in sources for node in ast.walk(ast.parse(file.read_text("utf-8"))))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "call"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert made == NAMES == recorded.keys()
    assert made == {*cudart._CALLS, "cudaGetDeviceProperties"} - {"cudaDeviceGetAttribute"}


@pytest.mark.skipif(sys.platform != "linux", reason="wheels of Linux")
@pytest.mark.parametrize("wheel", BINDINGS)
def test_the_bindings_take_and_return_what_the_stand_in_does(
    wheel: str, recorded: dict[str, tuple[list[Any], list[Any]]]
) -> None:
    if "==13" in wheel and sys.version_info < (3, 11):
        pytest.skip("CUDA 13.5's bindings want Python 3.11")
    found = answered("cuda.bindings.runtime", [fetched(wheel), fetched(PATHFINDER)], recorded)
    for name, (arguments, values) in recorded.items():
        real = found["calls"][name]
        assert len(real["values"]) == len(values), name
        assert real["parameters"] == len(arguments), name
        # The driver's version is told without a driver: 0.
        assert real["values"] == [None] * len(values) or name == "cudaDriverGetVersion", name
        assert all(kind in TYPES[type(v)] for kind, v in zip(real["documented"], values, strict=True)), name
    fake = fake_cuda.Properties(b"", 0, 0, 0)
    assert found["properties"] == {field: type(value).__name__ for field, value in vars(fake).items()}
    assert found["handle"] == 5, "a stream's int() is its address, which TensorRT takes"
    constants = found["constants"]
    schedules = [constants[f"cudaDeviceSchedule{way}"] for way in ("Auto", "Spin", "BlockingSync")]
    assert schedules == list(cuda.WAITS.values())
    assert constants["cudaEventBlockingSync"] == cuda._EVENT_BLOCKS
    assert constants["cudaEventDisableTiming"] == cuda._NO_TIMING
    assert constants["cudaStreamNonBlocking"] == cuda._NON_BLOCKING
    for enum in (fake_cuda.cudaMemcpyKind, fake_cuda.cudaStreamCaptureMode, fake_cuda.cudaError_t):
        for member in enum:
            assert constants[f"{enum.__name__}.{member.name}"] == member
    for enum_name in ("cudaMemcpyKind", "cudaStreamCaptureMode"):
        for member_name, value in vars(getattr(cudart.Cudart, enum_name)).items():
            assert constants[f"{enum_name}.{member_name}"] == value
    attributes = [constants[f"cudaDeviceAttr.cudaDevAttrComputeCapability{x}"] for x in ("Major", "Minor")]
    assert attributes == [cudart._MAJOR, cudart._MINOR]


@pytest.mark.skipif(sys.platform != "linux", reason="wheels of Linux")
@pytest.mark.parametrize("wheel", LIBRARIES)
def test_ctypes_returns_what_the_bindings_do(wheel: str, recorded: dict[str, tuple[list[Any], list[Any]]]) -> None:
    library = next(fetched(wheel).rglob("libcudart.so.1?"))
    found = answered(str(library), [], recorded)
    for name, (_, values) in recorded.items():
        real = found["calls"][name]
        if name == "cudaDriverGetVersion":
            assert (real["status"], real["values"]) == (0, [0])
        else:
            assert real["status"] and real["name"].startswith("cudaError"), name
            assert real["values"] == [None] * len(values), name


def declared(header: str, function: str) -> tuple[Any, ...]:
    """A C function's parameters, as `cudart` writes them."""
    found = re.search(rf" CUDARTAPI {function}\(([^;]*)\);", header)
    assert found, function
    parameters = []
    for text in re.sub(r"__dv\(0\)|\b(?:const|enum|struct)\b", "", found[1]).split(","):
        base, stars, _ = re.fullmatch(r"\s*([\w ]+?)\s*(\**)\s*(\w+)\s*", text).groups()  # type: ignore[union-attr]
        kind = ctypes.c_void_p if base == "void" else C_TYPES[base]
        pointed = len(stars) - (base == "void")  # a `void *` is passed as an address
        parameters.append(cudart._Out(kind) if pointed else kind)
    return tuple(parameters)


@pytest.mark.skipif(sys.platform != "linux", reason="wheels of Linux")
@pytest.mark.parametrize("wheel", LIBRARIES)
def test_ctypes_passes_what_cudas_header_declares(wheel: str) -> None:
    """A call that fails at once, as above, says nothing of its arguments."""
    header = next(fetched(wheel).rglob("cuda_runtime_api.h")).read_text(encoding="utf-8")
    for call, parameters in cudart._CALLS.items():
        assert parameters == declared(header, cudart._SYMBOLS.get(call, call)), call


def test_where_the_wheel_wants_a_newer_driver_jetpacks_library_is_used(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = FakeCuda()
    monkeypatch.setattr(FakeCuda, "__name__", "libcudart.so.12")
    opened: list[str] = []
    monkeypatch.setattr(cudart, "NAMES", ("libcudart.so.13", "libcudart.so.12"))

    def load(name: str) -> FakeCuda:
        opened.append(name)
        if name == "libcudart.so.13":
            raise OSError(f"{name}: cannot open shared object file")
        return library

    monkeypatch.setattr(cudart, "Cudart", load)
    assert Cuda()._rt is board.cuda and not opened
    board.cuda.status = fake_cuda.cudaError_t.cudaErrorInsufficientDriver
    made = Cuda()
    assert made._rt is library and opened == ["libcudart.so.13", "libcudart.so.12"]
    library.status = board.cuda.status
    with pytest.raises(EnvironmentLacksError, match="cudaErrorInsufficientDriver"):
        Cuda()


def test_how_to_wait_is_chosen(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    for waits, flags, blocks in (("auto", 0, 0), ("spin", 1, 0), ("block", 4, 1), ("", 0, 0)):
        monkeypatch.setenv(cuda.CHOICE, waits)
        board.cuda.flags = 0
        made = Cuda()
        assert (board.cuda.flags, made.event().flags & 1) == (flags, blocks)
    monkeypatch.setenv(cuda.CHOICE, "patiently")
    with pytest.raises(UsageError, match="MUE_EDGE_WAITS='patiently' is none of auto, spin, block"):
        Cuda()
