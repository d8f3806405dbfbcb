"""A Jetson made of stand-ins, and a bundle for it of the tiny random model."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.targets.trt import cudart
from mue_edge.targets.trt.engines import build
from mue_edge.targets.trt.library import Library
from mue_edge.targets.trt.runtime import TensorRTRuntime
from tests.targets.trt.fake_cuda import FakeCuda
from tests.targets.trt.fake_tensorrt import FakeTensorRT


@dataclass
class Board:
    """The stand-ins, as the adapter finds them installed."""

    cuda: FakeCuda
    trt: FakeTensorRT

    def runtime(self, bundle: Bundle, *, look_ahead: bool = True) -> TensorRTRuntime:
        build(bundle)
        return TensorRTRuntime(bundle, look_ahead=look_ahead)

    def library(self) -> Library:
        return Library()


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Board:
    """JetPack 6.2 with an empty cache."""
    cuda = FakeCuda()
    trt = FakeTensorRT(cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)  # type: ignore[misc]
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)  # type: ignore[misc]
    monkeypatch.setattr(cudart, "NAMES", ())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MUE_EDGE_JETSON", "tensorrt")
    return Board(cuda, trt)


@pytest.fixture(scope="session")
def jetson_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fp16 bundle of the tiny model for JetPack 6, a layer a segment."""
    return exported(tiny_model_folder, tmp_path_factory.mktemp("bundles") / "jetson")


@pytest.fixture(scope="session")
def jetson_entail_folder(tiny_entail_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `jetson_folder`, of the model that is asked about statements."""
    return exported(tiny_entail_folder, tmp_path_factory.mktemp("bundles") / "jetson-entail")


def exported(model: Path, out: Path) -> Path:
    pytest.importorskip("onnx")
    from mue_edge.export.build import export

    patch = pytest.MonkeyPatch()
    patch.setenv("MUE_EDGE_JETSON", "onnxruntime")
    patch.setattr("mue_edge.export.tensorrt.rtx.is_here", lambda: False)  # it has a test of its own
    export(model, out, "jetson", {"ends": "per-layer"})
    patch.undo()
    return out


@pytest.fixture
def jetson_bundle(jetson_folder: Path) -> Bundle:
    return open_bundle(jetson_folder)
