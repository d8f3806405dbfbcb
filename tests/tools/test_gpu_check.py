"""The script for a real GPU, over the stand-in of CUDA: it passes, and a fault in the adapter fails it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gpu_check
import pytest

from mue_edge.bundle.folder import Bundle
from mue_edge.targets.trt import memory
from mue_edge.targets.trt.cuda import Cuda
from tests.targets.trt.conftest import board, jetson_bundle, jetson_folder
from tests.targets.trt.fake_cuda import FakeCuda

__all__ = ["board", "jetson_bundle", "jetson_folder"]


class ByHandle(FakeCuda):
    """Takes a stream's address for the stream, as the real bindings do."""

    def enqueue(self, stream: Any, what: str, work: Any) -> None:
        super().enqueue(self.streams.get(stream, stream) if isinstance(stream, int) else stream, what, work)


@pytest.fixture
def check(board: Any, jetson_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = ByHandle()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", made)  # type: ignore[misc]
    monkeypatch.setattr(gpu_check, "CYCLES", 2)

    def check() -> dict[str, Any]:
        def launch(stream: int, work: Any) -> None:
            made.enqueue(stream, "host function", work)

        return gpu_check.checked(jetson_bundle, Cuda(), launch, 2)

    return check


def test_the_adapter_passes(check: Any) -> None:
    found = check()
    assert found["failed"] == {}
    assert found["look_ahead"]["equal"] == found["look_ahead"]["captions"] > 2
    assert found["graphs"] > 10 and found["calls"].keys() == {"auto", "spin", "block"}
    assert found["free"][0] == found["free"][1]


def test_an_early_read_fails(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.Readback, "wait", lambda self: {p: x.array for p, x in self._pinned.items()})
    try:
        failed = check()["failed"]
    except Exception:  # a word that is no word
        return
    assert "look_ahead" in failed


def test_memory_that_stays_fails(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "SLACK", 0)
    monkeypatch.setattr(memory.Pinned, "free", lambda self: None)
    call = Cuda.call

    def without_free(self: Cuda, name: str, *arguments: Any, **options: Any) -> Any:
        return None if name == "cudaFree" else call(self, name, *arguments, **options)

    monkeypatch.setattr(Cuda, "call", without_free)
    assert "memory" in check()["failed"]


def test_what_is_missing_is_said(jetson_bundle: Bundle, tiny_bundle: Path) -> None:
    """Here: a GPU; a bundle for Jetson. A line each, no traceback."""

    def said(bundle: Path) -> tuple[int, str]:
        command = [sys.executable, gpu_check.__file__, str(bundle)]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.returncode, done.stderr

    code, line = said(jetson_bundle.path)
    assert code == 5 and line.startswith("error: ") and line.count("\n") == 1, line
    code, line = said(tiny_bundle)
    assert code == 2 and "mue-edge export stickers --target jetson" in line
