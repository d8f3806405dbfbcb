"""Files of torch.save: the same numbers as torch's own reader gives, and only those asked for."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mue_edge.errors import InputFileError
from mue_edge.models import torch_files
from mue_edge.models.pickle_values import Placeholder
from mue_edge.models.stored_tensors import StoredTensor
from tests.models.crafted import END, Raw, call, code, name, save, tensor, zipped


def numbers(*shape: int) -> Tensor:
    return torch.arange(1, 1 + int(np.prod(shape))).reshape(shape)


def honest() -> dict[str, Tensor]:
    base = numbers(4, 6).float()
    with_attribute = torch.ones(3)
    with_attribute.mark = "x"  # type: ignore[attr-defined]
    types = (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32),
        *(torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128),
    )
    return {str(dtype): numbers(3, 5).to(dtype) for dtype in types} | {
        "whole": base,
        "same": base,
        "row": base[2],
        "transposed": base.t(),
        "steps": base[1::2, ::3],
        "reversed axes": base.reshape(2, 2, 6).permute(2, 0, 1),
        "number": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "one column": base[:, :1],
        "repeated": torch.ones(1, 3).expand(4, 3),
        "parameter": torch.nn.Parameter(numbers(2, 2).float()),
        "with an attribute": with_attribute,
        "not contiguous, half": numbers(4, 4).half()[:, 1:3],
    }


def equal(got: Tensor, expected: Tensor) -> bool:
    """Bit by bit."""
    same = (got.dtype, got.shape, got.stride()) == (expected.dtype, expected.shape, expected.stride())
    if got.dtype == torch.bfloat16:
        got, expected = got.view(torch.int16), expected.view(torch.int16)
    return same and got.numpy(force=True).tobytes() == expected.numpy(force=True).tobytes()


@pytest.mark.parametrize("new", [True, False])
def test_the_same_tensors_as_torch(tmp_path: Path, new: bool) -> None:
    content: dict[str, Any] = dict(honest())
    content |= {"nested": [{"x": torch.ones(2)}], "best": np.float64(3), "n": argparse.Namespace(a=1)}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    file = torch_files.read(tmp_path / "a.pt")
    expected = torch.load(tmp_path / "a.pt", weights_only=False)
    assert file.content.keys() == expected.keys()
    for key in honest():
        assert equal(file.tensor(file.content[key]), expected[key]), key
    assert equal(file.tensor(file.content["nested"][0]["x"]), torch.ones(2))
    assert (file.content["best"], file.content["n"]) == (3.0, {"a": 1})


def test_types_that_came_later(tmp_path: Path) -> None:
    for dtype in (torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn):
        torch.save(numbers(7).to(dtype), tmp_path / "a.pt")
        file = torch_files.read(tmp_path / "a.pt")
        got = file.tensor(file.content)
        assert got.dtype == dtype and torch.equal(got.float(), numbers(7).float())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("new", [True, False])
def test_every_protocol_and_a_state_dict(tmp_path: Path, protocol: int, new: bool) -> None:
    state = torch.nn.Linear(3, 2).state_dict()  # an OrderedDict with an attribute
    assert isinstance(state, OrderedDict)
    torch.save(state, tmp_path / "a.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    file = torch_files.read(tmp_path / "a.pt")
    assert all(equal(file.tensor(file.content[key]), value) for key, value in state.items())


def test_compressed_again_and_big_endian(tmp_path: Path) -> None:
    state = {key: value for key, value in honest().items() if value.dtype != torch.bfloat16}
    torch.save(state, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    (tmp_path / "b.pt").write_bytes(zipped(entries, zipfile.ZIP_DEFLATED))
    file = torch_files.read(tmp_path / "b.pt")
    assert all(equal(file.tensor(file.content[key]), value) for key, value in state.items())
    entries = save_entries({"x": torch.tensor([1.5, -2.0, 3e-5])}, tmp_path)
    data = np.frombuffer(entries["a/data/0"], "<f4").astype(">f4").tobytes()
    (tmp_path / "c.pt").write_bytes(zipped(entries | {"a/data/0": data, "a/byteorder": b"big"}))
    file = torch_files.read(tmp_path / "c.pt")
    assert equal(file.tensor(file.content["x"]), torch.tensor([1.5, -2.0, 3e-5]))
    assert sys.byteorder == "little"


def save_entries(content: Any, folder: Path) -> dict[str, bytes]:
    torch.save(content, folder / "a")
    with zipfile.ZipFile(folder / "a") as archive:
        return {entry: archive.read(entry) for entry in archive.namelist()}


def test_tensors_that_are_not_rebuilt_are_placeholders(tmp_path: Path) -> None:
    strange = {
        "sparse": torch.eye(2).to_sparse(), "conjugate": torch.ones(2, dtype=torch.complex64).conj(),
        "meta": torch.zeros(2, device="meta"), "plain": torch.ones(2),
    }  # fmt: skip
    torch.save(strange, tmp_path / "a.pt")
    file = torch_files.read(tmp_path / "a.pt")
    assert isinstance(file.content.pop("plain"), StoredTensor)
    assert all(isinstance(value, Placeholder) for value in file.content.values())


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    entries = save_entries({"model": torch.ones(3), "optimizer": torch.zeros(1000)}, tmp_path)
    del entries["a/data/1"]
    (tmp_path / "b.pt").write_bytes(zipped(entries))
    file = torch_files.read(tmp_path / "b.pt")
    assert equal(file.tensor(file.content["model"]), torch.ones(3))
    with pytest.raises(InputFileError, match="cannot be read"):
        file.tensor(file.content["optimizer"])


def view(offset: Any, shape: Any, stride: Any, count: Any = 6, kind: str = "FloatStorage", key: str = "0") -> bytes:
    storage = Raw(code(("storage", Raw(name("torch", kind)), key, "cpu", count)) + b"Q")
    return call(name("torch._utils", "_rebuild_tensor"), storage, offset, shape, stride)


VIEWS = {
    "past the end": view(1, (6,), (1,)),
    "far past the end": view(0, (2,), (1 << 40,)),
    "offset past the end": view(1 << 45, (1,), (1,)),
    "storage longer than its bytes": view(0, (9,), (1,), count=9),
    "giant repeated": view(0, (1 << 20, 1 << 20), (0, 0)),
    "too many numbers": view(0, (1 << 47,) * 30, (0,) * 30),
}
NO_VIEWS = {
    "negative offset": view(-1, (2,), (1,)),
    "negative size": view(0, (-2,), (1,)),
    "negative stride": view(5, (2,), (-1,)),
    "sizes beyond 64 bits": view(0, (1 << 70,), (1,)),
    "shape and stride differ": view(0, (2,), ()),
    "shape that is no tuple": view(0, 2, (1,)),
    "a size that is no number": view(0, ("x",), (1,)),
    "a size that is true": view(0, (True,), (1,)),
    "negative count": view(0, (2,), (1,), count=-6),
    "unknown storage": view(0, (2,), (1,), kind="EvilStorage"),
    "no storage": call(name("torch._utils", "_rebuild_tensor_v2"), None, 0, (1,), (1,), False, {}),
    "storage by name": tensor(torch.ones(2), storage="0"),
    "short id": tensor(torch.ones(2), storage=Raw(code(("storage",)) + b"Q")),
    "id that is no tuple": tensor(torch.ones(2), storage=Raw(b"K\x05Q")),
    "textual id": tensor(torch.ones(2), storage=Raw(b"Pstorage\n")),
}


@pytest.mark.parametrize("case", VIEWS | NO_VIEWS)
def test_views_outside_their_storage(tmp_path: Path, case: str) -> None:
    program = b"\x80\x02" + (VIEWS | NO_VIEWS)[case] + END
    (tmp_path / "a.pt").write_bytes(zipped({"a/data.pkl": program, "a/data/0": bytes(24)}))
    file = torch_files.read(tmp_path / "a.pt")
    if case in NO_VIEWS:
        assert isinstance(file.content, Placeholder)
        return
    with pytest.raises(InputFileError, match=r"storage|cut short|larger than|file"):
        file.tensor(file.content)


def test_bad_containers(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    cases: list[tuple[bytes, str]] = [
        (zipped({"x/y": b"", "data.pkl": b"N."}), "not one of torch.save"),
        (zipped({"a/data.pkl": b"N.", "b/data.pkl": b"N."}), "not one of torch.save"),
        (zipped({"a/data.pkl": b"N.", "a/byteorder": b"middle"}), "byte order"),
        (zipped({"a/data.pkl": b"N.", "../../evil": b"x"})[:-30], "cannot be read"),
        (b"PK\x03\x04", "cannot be read"), (b"", "cannot be read"), (b"text", "pickle"),
        (b"a" * 257 + b"ustar" + bytes(300), "pickle"),
    ]  # fmt: skip
    for data, said in cases:
        path.write_bytes(data)
        with pytest.raises(InputFileError, match=said) as caught:
            torch_files.read(path)
        assert str(path) in str(caught.value)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"N.")
        archive.writestr("a/data.pkl", b"K\x01.")
    with pytest.raises(InputFileError, match="two entries"):
        torch_files.read(path)


def test_small_files_that_would_be_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_files, "SLACK", 1 << 20)
    count, zeros = 64 << 10, bytes(256 << 10)
    many = [view(0, (count,), (1,), count)] * 6
    spread = [view(0, (2,), (count - 1,), count)] * 6
    apart = [view(0, (1,), (1,), count, key=str(i)) for i in range(6)]
    for views, said in ((many, "larger than their"), (spread, "larger than their"), (apart, "more than the")):
        entries = {"a/data.pkl": b"\x80\x02](" + b"".join(views) + b"e."}
        entries |= {f"a/data/{i}": zeros for i in range(6)}
        (tmp_path / "a.pt").write_bytes(zipped(entries, zipfile.ZIP_DEFLATED))
        file = torch_files.read(tmp_path / "a.pt")
        file.tensor(file.content[0])
        with pytest.raises(InputFileError, match=f"far {said} file"):
            for stored in file.content:
                file.tensor(stored)


def test_nothing_is_unpacked_beside_the_file(tmp_path: Path) -> None:
    """Entries that lead out of the folder, and the tar files of early torch, which it unpacks to disk."""
    folder = tmp_path / "inner"
    folder.mkdir()
    entries = {"a/data.pkl": b"N.", "../evil": b"x", "/tmp/evil": b"x", "a/data/../../../evil": b"x"}
    (folder / "a.pt").write_bytes(zipped(entries))
    assert torch_files.read(folder / "a.pt").content is None
    with tarfile.open(folder / "b.pt", "w") as archive:
        for entry in ("sys_info", "pickle", "tensors", "storages", "../evil"):
            info = tarfile.TarInfo(entry)
            info.size = 2
            archive.addfile(info, io.BytesIO(b"N."))
    with pytest.raises(InputFileError, match="cannot be read as weights"):
        torch_files.read(folder / "b.pt")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.pt", "b.pt", "inner"]


@pytest.mark.parametrize("old", [True, False])
def test_files_cut_short_anywhere(tmp_path: Path, old: bool) -> None:
    value = torch.ones(4)
    whole = save(tmp_path / "a.pt", {"x": value}, value, old=old).read_bytes()
    file = torch_files.read(tmp_path / "a.pt")
    assert equal(file.tensor(file.content["x"]), value)
    for length in range(len(whole)):
        (tmp_path / "b.pt").write_bytes(whole[:length])
        with pytest.raises(InputFileError):
            file = torch_files.read(tmp_path / "b.pt")
            file.tensor(file.content["x"]) if isinstance(file.content, dict) else refuse()


def refuse() -> None:
    raise InputFileError("a plain number: the first pickle of an old file")


@pytest.mark.parametrize("old", [True, False])
def test_files_changed_anywhere(tmp_path_factory: pytest.TempPathFactory, old: bool) -> None:
    folder = tmp_path_factory.mktemp("changed")
    value = numbers(4).float()
    whole = save(folder / "a.pt", {"x": value, "n": [1, "y"]}, value, old=old).read_bytes()

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=4))
    def changed(at: int, data: bytes) -> None:
        path = folder / "b.pt"
        path.write_bytes(whole[:at] + data + whole[at + len(data) :])
        with contextlib.suppress(InputFileError):
            file = torch_files.read(path)
            if isinstance(file.content, dict) and isinstance(file.content.get("x"), StoredTensor):
                file.tensor(file.content["x"])

    changed()


def test_a_plain_pickle_holds_no_tensors(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"\x80\x02" + code({"n": 1, "x": torch.ones(2)}) + END)
    file = torch_files.read(path)
    assert file.content["n"] == 1
    with pytest.raises(InputFileError, match=r"torch\.save"):
        file.tensor(file.content["x"])


def test_a_pickle_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_files, "MOST_PICKLED", 100)
    for old in (True, False):
        path = save(tmp_path / "a.pt", {"x": "y" * 200}, old=old)
        with pytest.raises(InputFileError, match=r"larger than|damaged"):
            torch_files.read(path)
