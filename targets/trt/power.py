"""What a Jetson says of itself: power mode, clocks, and the power that its sensors measure, from plain files
and `nvpmodel`; what is not there is left out."""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

# Where the INA3221 of Orin boards and other hwmon sensors show volts (mV), currents (mA) and their names.
SENSORS = Path("/sys/class/hwmon")
GPU_CLOCKS = Path("/sys/class/devfreq")
# The rails that together feed the module; the first set that is there counts. VDD_IN: Orin Nano and NX; VIN:
# Thor; the three: AGX Orin, which has no rail for all. jtop (jetson_stats, core/power.py) takes VDD_IN, else
# the sum of every rail; left out here is VDDQ_VDD2_1V8AO, believed to be fed from VIN_SYS_5V0.
TOTALS = (("VDD_IN",), ("VIN",), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))
_EVERY = 0.02


def mode() -> dict[str, str]:
    """Power mode, release, and GPU clocks in MHz, as far as they can be read."""
    figures = {"power_mode": _nvpmodel(), "l4t": _read(Path("/etc/nv_tegra_release")).partition(",")[0]}
    clocks = [*sorted(GPU_CLOCKS.glob("*gpu*")), *sorted(GPU_CLOCKS.glob("*gv11b*"))][:1]
    for file in (folder / name for folder in clocks for name in ("cur_freq", "min_freq", "max_freq")):
        hertz = _read(file)
        if hertz.isdigit():
            figures[f"gpu_{file.name}_mhz"] = str(int(hertz) // 1_000_000)
    return {name: value for name, value in figures.items() if value}


def watts(folder: Path = SENSORS) -> float | None:
    """Of the module now; None where its rails are not known."""
    powers = rails(folder)
    return sum(powers.values()) if powers else None


def rails(folder: Path = SENSORS) -> dict[str, float]:
    """The rails whose power `watts` adds up, and the power of each."""
    powers = {}
    for label in sorted(folder.glob("*/in*_label")):
        number = label.name.removeprefix("in").removesuffix("_label")
        volts, amperes = (_read(label.with_name(f"{kind}{number}_input")) for kind in ("in", "curr"))
        if volts.isdigit() and amperes.isdigit():
            powers[_read(label)] = int(volts) * int(amperes) / 1e6
    complete = (names for names in TOTALS if powers.keys() >= set(names))
    return {rail: powers[rail] for rail in next(complete, ())}


class PowerMeter:
    """Samples the module's power on a thread of its own; `joules` integrates it over the block."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> PowerMeter:
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def joules(self) -> float | None:
        return integral(self._samples)

    def _run(self) -> None:
        while not self._stop.is_set():
            value = watts()
            if value is None:
                return
            self._samples.append((time.perf_counter(), value))
            self._stop.wait(_EVERY)


def integral(samples: Sequence[tuple[float, float]]) -> float | None:
    """∫ power dt by the trapezoid rule over (seconds, watts); None for fewer than two samples."""
    if len(samples) < 2:
        return None
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(samples))


def _nvpmodel() -> str:
    with suppress(OSError, subprocess.SubprocessError):
        text = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=5).stdout
        modes = (line.partition(":")[2].strip() for line in text.splitlines() if "Power Mode" in line)
        return next(modes, "")
    return ""


def _read(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8").strip().rstrip("\0")
    return ""
