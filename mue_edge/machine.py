"""What machine this is, and how busy: what a measurement must carry to be judged. Standard library only."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import suppress
from pathlib import Path

from mue_edge import versions as packages

_CPU_CLOCK = "/sys/devices/system/cpu/cpu0/cpufreq/"
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3), as glibc's malloc.h numbers them
_LARGE = 8 << 20


def load_average() -> float:
    """Processes that wanted to run, over the last minute; NaN where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def cores() -> int:
    """Logical ones that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """Physical cores are what arithmetic scales with; half of more than two logical ones is a fair guess."""
    available = cores()
    return available if available <= 2 else (available + 1) // 2


def return_large_blocks() -> None:
    """Have glibc give freed blocks of 8 MiB and more back to the system, as Pillow's of a large picture.

    By itself it raises that size up to 32 MiB by what was freed, and keeps twice as much (mallopt(3),
    M_MMAP_THRESHOLD): some 80 MB stay after a picture of 20 million pixels.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS, musl; Windows takes no None
        return
    mallopt(_MMAP_THRESHOLD, _LARGE)
    mallopt(_TRIM_THRESHOLD, _LARGE)


def versions() -> dict[str, str]:
    """Of what has a part in a measured time: the runtimes, numpy, Python, the system."""
    installed = {name: packages.installed(name) for name in ("onnxruntime", "executorch", "numpy")}
    system = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    return {name: version for name, version in installed.items() if version} | system


def device() -> str:
    """The board's name where it has one (Jetson, Raspberry Pi), else the processor's."""
    for line in _read("/proc/device-tree/model").rstrip("\0").splitlines():
        return line
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def clocks() -> dict[str, str]:
    """Cores that this process may use and, where readable, what governs their clock, and its MHz."""
    governor, khz = (_read(_CPU_CLOCK + name).strip() for name in ("scaling_governor", "scaling_cur_freq"))
    mhz = str(int(khz) // 1000) if khz.isdigit() else _cpuinfo("cpu MHz")
    values = {"cores": str(cores()), "governor": governor, "mhz": mhz}
    return {name: value for name, value in values.items() if value}


def _cpuinfo(field: str) -> str:
    """Of the first processor, empty where it is not there."""
    lines = _read("/proc/cpuinfo").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def _read(path: str) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return Path(path).read_text(encoding="utf-8")
    return ""
