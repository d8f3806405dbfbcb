"""Run as a script, for test_bindings.py: calls a real CUDA library where it sees no GPU, so that every call
fails before it does anything, and prints what it took and returned.

Argument: "cuda.bindings.runtime" (the wheel is on PYTHONPATH), or a libcudart's path. Standard input: JSON of
name → arguments, each an integer, ["handle", TYPE] or ["member", ENUM, NAME].
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from typing import Any


def main() -> None:
    source = sys.argv[1]
    if "/" in source:
        from mue_edge.targets.trt.cudart import Cudart

        rt: Any = Cudart(source)
    else:
        rt = importlib.import_module(source)
    found: dict[str, Any] = {"calls": {}}
    for name, arguments in json.load(sys.stdin).items():
        call = getattr(rt, name)
        status, *values = call(*(argument(rt, a) for a in arguments))
        found["calls"][name] = {
            "status": int(status), "name": str(getattr(status, "name", "")), "values": values,
            "documented": documented(call),
        }  # fmt: skip
        if source == "cuda.bindings.runtime":
            found["calls"][name]["parameters"] = len(inspect.signature(call).parameters)
    if source == "cuda.bindings.runtime":
        made = rt.cudaDeviceProp()
        fields = ("name", "major", "minor", "totalGlobalMem")
        found["properties"] = {field: type(getattr(made, field)).__name__ for field in fields}
        found["handle"] = int(rt.cudaStream_t(5))
        found["constants"] = {
            name: int(getattr(rt, name))
            for name in (
                "cudaDeviceScheduleAuto",
                "cudaDeviceScheduleSpin",
                "cudaDeviceScheduleBlockingSync",
                "cudaEventBlockingSync",
                "cudaEventDisableTiming",
                "cudaStreamNonBlocking",
            )
        }
        found["constants"] |= {
            f"{enum}.{member}": int(value)
            for enum in ("cudaMemcpyKind", "cudaStreamCaptureMode", "cudaError_t", "cudaDeviceAttr")
            for member, value in getattr(rt, enum).__members__.items()
        }
    print(json.dumps(found))


def argument(rt: Any, given: Any) -> Any:
    if isinstance(given, int):
        return given
    kind, name, *member = given
    if kind == "member":
        return getattr(getattr(rt, name), *member)
    return getattr(rt, name)(0) if hasattr(rt, name) else 0


def documented(call: Any) -> list[str]:
    """Types of the values after the status, from the "Returns" section of the docstring."""
    _, _, text = (call.__doc__ or "").partition("Returns\n")
    lines = re.findall(r"^\w+ : (.+)$", text.partition("See Also")[0], re.MULTILINE)
    return [re.sub(r":py:obj:`~?\.?(\w+)`", r"\1", line.strip()) for line in lines]


if __name__ == "__main__":
    main()
