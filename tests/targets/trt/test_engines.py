"""The engine cache: built once, shared timings, and everything that must not be loaded is refused with its
cure.
"""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.errors import EnvironmentLacksError, InputFileError
from mue_edge.targets import jetson
from mue_edge.targets.trt import engines as engines_module
from mue_edge.targets.trt.engines import EngineCache, build
from mue_edge.targets.trt.library import Library
from mue_edge.targets.trt.runtime import TensorRTRuntime
from tests.targets.trt.conftest import Board
from tests.targets.trt.fake_cuda import cudaError_t


def files(bundle: Bundle) -> list[Path]:
    return sorted(EngineCache(bundle).folder.glob("*.engine"))


def test_engines_are_built_once_with_shared_timings(jetson_bundle: Bundle, board: Board) -> None:
    names = list(jetson_bundle.manifest.segments)
    made = build(jetson_bundle)
    assert [e.segment for e in made] == names and all(e.seconds > 0 and e.bytes for e in made)
    kinds = {name.partition(".")[0] for name in names}
    assert len(board.trt.timed) == len(kinds), "layers of one kind were timed again"
    again = build(jetson_bundle)
    assert all(e.seconds == 0 for e in again) and len(board.trt.built) == len(names)
    build(jetson_bundle, force=True, workspace=7 << 20)
    assert len(board.trt.built) == 2 * len(names) and board.trt.workspaces[-1] == 7 << 20
    assert len(board.trt.timed) == len(kinds)


def test_no_engine_lies_in_the_bundle(jetson_bundle: Bundle, board: Board) -> None:
    before = sorted(jetson_bundle.path.rglob("*"))
    build(jetson_bundle)
    assert sorted(jetson_bundle.path.rglob("*")) == before and files(jetson_bundle)


def other_tensorrt(board: Board) -> None:
    board.trt.__version__ = "10.7.0"


def other_gpu(board: Board) -> None:
    board.cuda.sm = (8, 6)


def other_driver(board: Board) -> None:
    board.cuda.driver = 12080


CHANGES = {
    "tensorrt 10.3.0, not 10.7.0": other_tensorrt,
    "sm 8.7, not 8.6": other_gpu,
    "driver 12.6, not 12.8": other_driver,
}


@pytest.mark.parametrize("message", CHANGES)
def test_an_engine_of_another_machine_is_refused_and_rebuilt(jetson_bundle: Bundle, board: Board, message: str) -> None:
    build(jetson_bundle)
    CHANGES[message](board)
    with pytest.raises(InputFileError, match=rf"{message}.*mue-edge build"):
        TensorRTRuntime(jetson_bundle)
    count = len(board.trt.built)
    build(jetson_bundle)
    assert len(board.trt.built) == 2 * count
    TensorRTRuntime(jetson_bundle).close()


def test_an_engine_of_another_export_is_not_taken(jetson_bundle: Bundle, board: Board, tmp_path: Path) -> None:
    build(jetson_bundle)
    weights = next(name for name in jetson_bundle.manifest.files if name.endswith("weights.bin"))
    changed = dict(jetson_bundle.manifest.files)
    changed[weights] = replace(changed[weights], sha256="0" * 64)
    other = replace(jetson_bundle, manifest=replace(jetson_bundle.manifest, files=changed))
    with pytest.raises(InputFileError, match="has no engine here; build it with: mue-edge build"):
        TensorRTRuntime(other)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def something_else(path: Path) -> None:
    path.write_bytes(b"not an engine")


def without_header(path: Path) -> None:
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0] + b"x" * 10_000)


@pytest.mark.parametrize("damage", [cut_short, flipped, something_else, without_header])
def test_a_damaged_engine_never_reaches_tensorrt(
    jetson_bundle: Bundle, board: Board, damage: Callable[[Path], None]
) -> None:
    build(jetson_bundle)
    damage(files(jetson_bundle)[0])
    with pytest.raises(InputFileError, match=r"(damaged|no engine file).*mue-edge build"):
        TensorRTRuntime(jetson_bundle)
    count = len(board.trt.built)
    build(jetson_bundle)
    assert len(board.trt.built) == count + 1, "only the damaged one is built again"


def test_a_killed_build_leaves_whole_engines_only_and_goes_on(
    jetson_bundle: Bundle, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, written = engines_module.atomic_write, []

    def killed(path: Path, data: bytes) -> None:
        if len(written) == 4:
            (path.parent / f".{path.name}.half").write_bytes(data[: len(data) // 2])
            raise KeyboardInterrupt
        written.append(path)
        plain(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(engines_module, "atomic_write", killed)
        with pytest.raises(KeyboardInterrupt):
            build(jetson_bundle)
    whole = len(files(jetson_bundle))
    assert 0 < whole < len(jetson_bundle.manifest.segments)
    with pytest.raises(InputFileError, match="has no engine here"):
        TensorRTRuntime(jetson_bundle)
    made = build(jetson_bundle)
    assert sum(e.seconds == 0 for e in made) == whole
    assert not list(EngineCache(jetson_bundle).folder.glob(".*")), "the half-written file is still there"


def test_a_full_disk(jetson_bundle: Bundle, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(engines_module, "atomic_write", full)
    with pytest.raises(EnvironmentLacksError, match=r"the disk is full; make room.*XDG_CACHE_HOME.*build"):
        build(jetson_bundle)


def test_no_memory_during_a_build(jetson_bundle: Bundle, board: Board) -> None:
    board.trt.refuse = "Requested amount of GPU memory (8192 bytes) could not be allocated."
    with pytest.raises(EnvironmentLacksError, match=r"stem: Requested amount.*--workspace 256"):
        build(jetson_bundle)
    board.trt.refuse = "no implementation found"
    with pytest.raises(EnvironmentLacksError, match=r"no implementation found.*then try again: mue-edge build"):
        build(jetson_bundle)


def test_no_memory_at_run_time(jetson_bundle: Bundle, board: Board) -> None:
    build(jetson_bundle)
    board.cuda.limit = 100
    with pytest.raises(EnvironmentLacksError, match="the GPU has no memory left"):
        TensorRTRuntime(jetson_bundle)


def no_tensorrt(board: Board, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "tensorrt", None)  # type: ignore[arg-type]


def no_cuda_python(board: Board, patch: pytest.MonkeyPatch) -> None:
    for name in ("cuda.bindings.runtime", "cuda.cudart"):
        patch.setitem(sys.modules, name, None)  # type: ignore[arg-type]


def no_driver(board: Board, patch: pytest.MonkeyPatch) -> None:
    board.cuda.status = cudaError_t.cudaErrorInsufficientDriver


def no_gpu(board: Board, patch: pytest.MonkeyPatch) -> None:
    board.cuda.devices = 0


MISSING = {
    r"python3-libnvinfer.*MUE_EDGE_JETSON=onnxruntime": no_tensorrt,
    r"neither cuda-python nor libcudart can be loaded.*pip install 'mue-edge": no_cuda_python,
    r"no GPU or no driver: cudaErrorInsufficientDriver": no_driver,
    "CUDA finds no GPU here": no_gpu,
}


@pytest.mark.parametrize("message", MISSING)
def test_what_is_missing_is_named(
    jetson_bundle: Bundle, board: Board, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    MISSING[message](board, monkeypatch)
    for use in (lambda: build(jetson_bundle), lambda: jetson.open_runtime(jetson_bundle)):
        with pytest.raises(EnvironmentLacksError, match=message):
            use()


def test_a_bundle_for_another_jetpack_is_refused(jetson_bundle: Bundle, board: Board) -> None:
    board.trt.__version__ = "8.5.2"
    with pytest.raises(EnvironmentLacksError, match=r"for TensorRT >=10\.3.*here is 8\.5\.2.*--backend"):
        build(jetson_bundle)


def test_a_graph_that_points_outside_is_not_parsed(jetson_folder: Path, board: Board, tmp_path: Path) -> None:
    import onnx

    from mue_edge.files import sha256

    folder = Path(shutil.copytree(jetson_folder, tmp_path / "bundle"))
    bundle = open_bundle(folder)
    file = bundle.manifest.segments["stem"].file
    model = onnx.load(str(folder / file), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../constants.bin"
    (folder / file).write_bytes(model.SerializeToString())
    entry = replace(bundle.manifest.files[file], sha256=sha256(folder / file), bytes=(folder / file).stat().st_size)
    changed = replace(bundle.manifest, files={**bundle.manifest.files, file: entry})
    with pytest.raises(InputFileError, match="which the bundle does not list"):
        build(replace(bundle, manifest=changed))
    assert board.trt.built == []


def test_identity_names_what_an_engine_depends_on(jetson_bundle: Bundle, board: Board) -> None:
    identity = Library().identity("abc")
    assert (identity.tensorrt, identity.sm, identity.driver) == ("10.3.0", "8.7", "12.6")
