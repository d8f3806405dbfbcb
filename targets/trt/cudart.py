"""JetPack's own libcudart through ctypes: where cuda-python's wheel does not load or wants a newer driver
(PyPI's aarch64 wheels are built for servers: bitsandbytes#1941).

`Cudart` has the calls of `cuda.bindings.runtime` that the adapter uses: the same names, arguments and tuples,
a status first and None for every value of a call that failed. C signatures: the CUDA runtime API of 12.x and
13.x, where they are the same; a CUDA graph is instantiated by the call whose signature never changed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

# The first that finds a GPU is used. JetPack 7, JetPack 6, and where the linker's cache lacks both.
NAMES = ("libcudart.so.13", "libcudart.so.12", "/usr/local/cuda/lib64/libcudart.so")

# cudaDeviceAttr
_MAJOR, _MINOR = 75, 76
# cudaDeviceProp begins with the name in every CUDA; it is 1 KB large, in 12 and in 13.
_PROPERTIES_BYTES, _NAME_BYTES = 1 << 14, 256


@dataclass(frozen=True)
class _Out:
    """A parameter that the library writes to."""

    type: Any


class Status(int):
    """cudaError_t, with the library's own name of it."""

    name = ""


_I, _U, _S, _P, _L = ctypes.c_int, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_ulonglong
_CALLS: dict[str, tuple[Any, ...]] = {
    "cudaGetDeviceCount": (_Out(_I),),
    "cudaDriverGetVersion": (_Out(_I),),
    "cudaSetDeviceFlags": (_U,),
    "cudaMemGetInfo": (_Out(_S), _Out(_S)),
    "cudaMalloc": (_Out(_P), _S),
    "cudaFree": (_P,),
    "cudaMallocHost": (_Out(_P), _S),
    "cudaFreeHost": (_P,),
    "cudaStreamCreateWithFlags": (_Out(_P), _U),
    "cudaStreamDestroy": (_P,),
    "cudaStreamSynchronize": (_P,),
    "cudaEventCreateWithFlags": (_Out(_P), _U),
    "cudaEventDestroy": (_P,),
    "cudaEventRecord": (_P, _P),
    "cudaEventSynchronize": (_P,),
    "cudaMemcpyAsync": (_P, _P, _S, _I, _P),
    "cudaMemcpy2DAsync": (_P, _S, _P, _S, _S, _S, _I, _P),
    "cudaMemsetAsync": (_P, _I, _S, _P),
    "cudaStreamBeginCapture": (_P, _I),
    "cudaStreamEndCapture": (_P, _Out(_P)),
    "cudaGraphInstantiate": (_Out(_P), _P, _L),
    "cudaGraphDestroy": (_P,),
    "cudaGraphLaunch": (_P, _P),
    "cudaGraphExecDestroy": (_P,),
    "cudaDeviceGetAttribute": (_Out(_I), _I, _I),
}
_SYMBOLS = {"cudaGraphInstantiate": "cudaGraphInstantiateWithFlags"}


class Cudart:
    """One libcudart. Raises OSError if there is none of that name, AttributeError if it lacks a call."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, name: str) -> None:
        self.__name__ = name
        self._library = ctypes.CDLL(name)
        self._library.cudaGetErrorName.restype = ctypes.c_char_p
        for call, parameters in _CALLS.items():
            setattr(self, call, self._bound(call, parameters))

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        """Name, compute capability and memory of a GPU, without the rest of the struct, which changes."""
        raw = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        status = self._status(self._library.cudaGetDeviceProperties(raw, device))
        name = raw.raw[:_NAME_BYTES].partition(b"\0")[0]
        results = [(status,)]
        for call, *arguments in (
            ("cudaDeviceGetAttribute", _MAJOR, device),
            ("cudaDeviceGetAttribute", _MINOR, device),
            ("cudaMemGetInfo",),
        ):
            if results[-1][0] == 0:
                results.append(getattr(self, str(call))(*arguments))
        if results[-1][0] != 0:
            return results[-1][0], None
        major, minor, memory = (values[-1] for values in results[1:])
        return status, SimpleNamespace(name=name, major=major, minor=minor, totalGlobalMem=memory)

    def _bound(self, name: str, parameters: tuple[Any, ...]) -> Callable[..., tuple[Any, ...]]:
        function = getattr(self._library, _SYMBOLS.get(name, name))

        def call(*arguments: Any) -> tuple[Any, ...]:
            values, outputs, pointers = iter(arguments), [], []
            for parameter in parameters:
                if isinstance(parameter, _Out):
                    outputs.append(parameter.type())
                    pointers.append(ctypes.byref(outputs[-1]))
                else:
                    pointers.append(parameter(next(values)))
            status = self._status(function(*pointers))
            return (status, *(out.value if status == 0 else None for out in outputs))

        return call

    def _status(self, code: int) -> Status:
        status = Status(code)
        status.name = self._library.cudaGetErrorName(code).decode() if code else "cudaSuccess"
        return status
