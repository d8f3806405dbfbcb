"""Graphs that reach outside of the bundle are refused before ONNX Runtime sees them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mue_edge.bundle.manifest import FileEntry
from mue_edge.errors import InputFileError
from mue_edge.targets.onnx_guard import check

onnx = pytest.importorskip("onnx")


class Fake(SimpleNamespace):
    """A bundle of which only the files matter here."""

    def file(self, name: str) -> Path:
        path: Path = self.path / name
        return path


def bundle(folder: Path, location: str, offset: int = 0, length: int = 16, *, nested: bool = False) -> Any:
    from onnx import TensorProto, helper
    from onnx.external_data_helper import set_external_data

    tensor = helper.make_tensor("w", TensorProto.FLOAT, [4], np.ones(4, np.float32).tobytes(), raw=True)
    set_external_data(tensor, location, offset=offset, length=length)
    tensor.ClearField("raw_data")
    if nested:
        graph = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "g", [], [])
        branch = helper.make_node("If", ["b"], ["y"], then_branch=graph, else_branch=graph)
        made = helper.make_graph([branch], "outer", [], [])
    else:
        made = helper.make_graph([], "g", [], [], initializer=[tensor])
    (folder / "segments").mkdir()
    (folder / "segments" / "a.onnx").write_bytes(helper.make_model(made).SerializeToString())
    files = {"segments/a.onnx": FileEntry(1, ""), "segments/weights.bin": FileEntry(64, "")}
    return Fake(path=folder, manifest=SimpleNamespace(files=files))


@pytest.mark.parametrize("nested", [False, True])
def test_weights_inside_are_fine(tmp_path: Path, nested: bool) -> None:
    check(bundle(tmp_path, "weights.bin", 48, 16, nested=nested), "segments/a.onnx")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "other.bin", "", "./weights.bin"])
def test_other_places_are_refused(tmp_path: Path, location: str, nested: bool) -> None:
    with pytest.raises(InputFileError):
        check(bundle(tmp_path, location, nested=nested), "segments/a.onnx")


@pytest.mark.parametrize(("offset", "length"), [(64, 1), (0, 65), (-1, 4), (2**62, 2**62)])
def test_ranges_beyond_the_file_are_refused(tmp_path: Path, offset: int, length: int) -> None:
    with pytest.raises(InputFileError):
        check(bundle(tmp_path, "weights.bin", offset, length), "segments/a.onnx")


@pytest.mark.parametrize("raw", [b"\xff" * 40, b"\x3a\xff\xff\xff\xff\x0f", b"\x0b", b"\x3a\x05ab"])
def test_garbage_is_refused(tmp_path: Path, raw: bytes) -> None:
    made = bundle(tmp_path, "weights.bin")
    (tmp_path / "segments" / "a.onnx").write_bytes(raw)
    with pytest.raises(InputFileError, match="not an ONNX file"):
        check(made, "segments/a.onnx")
