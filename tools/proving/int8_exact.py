"""int8 on the host: errors, decisions and time with and without exact sums, on processors that saturate too.

Where ONNX Runtime uses VNNI its sums are exact anyway. So the same is measured with copies of it that choose
their int8 kernels as on x86 without VNNI; these run here natively.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from proving import ROOT
from proving.bundles import BUNDLES, kept
from proving.reading import PYTHON_PATH

# MLAS reads the processor's features once. `and r10d, c0020000h` asks for what its AVX-512 int8 kernels need,
# the `and edi, 800h` after it for VNNI; the changes make both answers no.
_ASKS_AVX512 = bytes.fromhex("4181e2000002c0")
_NO_AVX512 = bytes.fromhex("4181ca000002c0")
_ASKS_VNNI = bytes.fromhex("81e700080000")
_NO_VNNI = bytes.fromhex("81e700000000")
NEAR = 400


def bundle_of(name: str, folder: Path, kind: str) -> Path:
    from onnxruntime import quantization

    from mue_edge.export.build import export

    seven = partial(quantization.quantize_dynamic, reduce_range=kind.endswith("7 bits"))

    def make(out: Path) -> None:
        with mock.patch("onnxruntime.quantization.quantize_dynamic", seven):
            export(folder, out, "host", {"precision": kind.partition(" ")[0]}, name=name)

    return kept(f"{name}-host-{kind.replace(' ', '-')}", make)


def runtimes() -> Iterator[tuple[str, Path | None]]:
    """Processor → the folder with the ONNX Runtime that takes its kernels; None for the installed one."""
    yield "this processor", None
    words = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    if "avx512_vnni" not in words:
        return
    yield "AVX-512 without VNNI", _copy("avx512", _ASKS_VNNI, _NO_VNNI)
    yield "AVX2", _copy("avx2", _ASKS_AVX512, _NO_AVX512)


def _copy(name: str, asked: bytes, answered: bytes) -> Path:
    """A copy of ONNX Runtime with one instruction changed; ends where this build has it elsewhere."""
    import onnxruntime

    place = ROOT / ".cache" / "onnxruntime" / f"{onnxruntime.__version__}-{name}"
    if place.is_dir():
        return place
    work = place.with_suffix(".partial")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(Path(onnxruntime.__file__).parent, work / "onnxruntime")
    (library,) = (work / "onnxruntime" / "capi").glob("onnxruntime_pybind11_state*.so")
    data = bytearray(library.read_bytes())
    start = data.find(_ASKS_AVX512)
    near = data[start : start + NEAR]
    if data.count(_ASKS_AVX512) != 1 or near.count(asked) != 1:
        sys.exit(f"ONNX Runtime {onnxruntime.__version__} asks for the processor's features in another way")
    at = start + near.find(asked)
    data[at : at + len(answered)] = answered
    library.write_bytes(data)
    work.rename(place)
    return place


def measured(name: str, place: Path | None, bundles: dict[str, dict[str, str]]) -> dict[str, Any]:
    """What the process of that ONNX Runtime finds."""
    out = BUNDLES / f"int8-{name.replace(' ', '-')}.json"
    paths = [*([str(place)] if place else []), PYTHON_PATH]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "proving.int8_processor", json.dumps(bundles), str(out)]
    subprocess.run(command, cwd=ROOT, check=True, env=env)
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found
