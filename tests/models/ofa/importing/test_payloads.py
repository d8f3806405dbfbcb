"""Payloads at every place of a checkpoint: nothing runs or is written, and only the needed is refused."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mue_edge.errors import InputFileError
from mue_edge.models.ofa.importing import weights as checkpoint
from mue_edge.models.ofa.importing.files import read
from tests.models.crafted import Raw, code, save, tensor
from tests.models.ofa import checkpoints
from tests.models.ofa.importing.test_checkpoint import run
from tests.models.ofa.payloads import payloads
from tests.models.ofa.tiny import TINY, make

MODULE = "module_that_no_one_may_import"
FIRST = torch.ones(2)
WATCHED = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.mkdir", "os.rename", "os.remove"),
    *("subprocess.Popen", "exec", "compile", "import", "pickle.find_class", "marshal.loads", "code.__new__"),
    *("socket.connect", "socket.__new__", "shutil.copyfile", "webbrowser.open", "pty.spawn", "ctypes.dlopen"),
)
_seen: list[str] | None = None  # of the test that is watching; a hook cannot be taken off again


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    writes = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event in WATCHED:
        _seen.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_hook)
codecs.lookup("cp437")  # zipfile imports it at first use


class Watch:
    """What of WATCHED happens within."""

    def __enter__(self) -> list[str]:
        global _seen
        _seen = []
        return _seen

    def __exit__(self, *_: object) -> None:
        global _seen
        _seen = None


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return {key: value for key, value in checkpoints.state(make()).items() if value.dtype == torch.float32}


@pytest.fixture(scope="module", autouse=True)
def evil_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("path")
    (folder / f"{MODULE}.py").write_text("raise SystemExit('imported')")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    assert MODULE not in sys.modules


def content(weights: dict[str, Any], **changes: Any) -> dict[str, Any]:
    settings = checkpoints.settings(TINY)
    size = {"patch_image_size": settings.pop("patch_image_size")}
    return {
        "args": None,
        "cfg": {"model": settings, "task": {"_name": "caption"} | size},
        "model": weights,
        "criterion": None,
        "optimizer_history": [{"num_updates": 0}],
        "task_state": {},
        "extra_state": {},
    } | changes


def everywhere_else(direct: Raw, payloads: list[Raw], weights: dict[str, Tensor]) -> dict[str, Any]:
    """A checkpoint with payloads at every place that is not needed."""
    made = content(weights)
    made["cfg"]["model"] |= {"dropout": direct, "user_dir": payloads}
    made["cfg"]["task"] |= {"selected_cols": direct, "data": payloads}
    made["cfg"] |= {"common": direct, "checkpoint": payloads}
    return made | {
        "criterion": direct,
        "optimizer_history": [direct, {"lr_scheduler_state": payloads}],
        "task_state": {"dictionary": direct, "all": payloads},
        "last_optimizer_state": {"state": {0: {"exp_avg": direct, "all": tuple(payloads)}}},
        "extra_state": {"best": direct, "ema": {"x": direct}, "metrics": [payloads, (direct,)]},
        "fsdp_metadata": direct,
        "another": Raw(b"}" + direct.code + b"Ns"),
    }


def test_what_is_not_needed_may_be_anything(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path, marker = tmp_path / "a.pt", tmp_path / "marker"
    checkpoint.convert(read(checkpoints.fairseq(path, make()), allow_pickle=True))
    save(path, content(weights), *weights.values())
    checkpoint.convert(read(path, allow_pickle=True))  # what is imported late now is
    made = payloads(marker, MODULE)
    assert len(made) > 200
    for number, said in enumerate(list(made)[::15]):
        tree = everywhere_else(made[said], list(made.values()), weights)
        save(path, tree, *weights.values(), old=number % 2 == 1)
        with Watch() as seen:
            stored = read(path, allow_pickle=True)
        got = checkpoint.convert(stored)  # unwatched: it compiles annotations of our own
        assert not seen, said
        assert [p.name for p in tmp_path.iterdir()] == ["a.pt"], said
        assert got.config == make().config


def needed(place: str, payload: Raw) -> dict[str, Any] | Raw:
    """A small file with the payload at a place that is needed."""
    small: dict[str, Any] = {"encoder.a": FIRST}
    made = content(small)
    if place == "top level":
        return payload
    if place == "an entry":
        small["encoder.x"] = payload
    elif place == "a name":
        made["model"] = Raw(b"}(" + payload.code + tensor(torch.ones(1)) + b"u")
    elif place == "all weights":
        made["model"] = payload
    elif place == "state_dict":
        return {"state_dict": payload}
    elif place == "bare":
        return small | {"encoder.x": payload}
    elif place == "a storage":
        small["encoder.x"] = Raw(tensor(torch.ones(1), storage=payload))
    elif place == "the type of a storage":
        pid = Raw(code(("storage", payload, "0", "cpu", 1)) + b"Q")
        small["encoder.x"] = Raw(tensor(torch.ones(1), storage=pid))
    elif place == "settings":
        made["cfg"] = payload
    elif place == "args":
        made["args"] = payload
    elif place == "a setting of args":
        made["args"] = made["cfg"]["model"] | {"attn_scale_factor": payload}
    elif place == "a name of args":
        made["args"] = Raw(b"}(" + payload.code + code(1) + b"u")
    elif place in ("model", "task"):
        made["cfg"][place] = payload
    elif place == "the task's name":
        made["cfg"]["task"]["_name"] = payload
    elif place == "a setting of the model":
        made["cfg"]["model"]["attn_scale_factor"] = payload
    elif place == "a list of the model":
        made["cfg"]["model"]["resnet_layers"] = [3, payload]
    elif place == "a setting of the task":
        made["cfg"]["task"]["patch_image_size"] = payload
    elif place == "extra_state":
        made["extra_state"] = payload
    elif place == "averages":
        made["extra_state"] = {"ema": payload}
    elif place == "an average":
        made["extra_state"] = {"ema": {"encoder.x": payload}}
    elif place == "an exact average":
        made["extra_state"] = {"ema": {"encoder.a": FIRST}, "ema_fp32_params": {"x": payload}}
    return made


PLACES = {
    "top level": "holds a", "an entry": "model: encoder.x is a", "a name": "a name is a",
    "all weights": "model is a", "state_dict": "state_dict is a", "bare": "encoder.x is a",
    "a storage": "model: encoder.x is a", "the type of a storage": "model: encoder.x is a",
    "settings": "cfg is neither", "args": "args is neither", "a setting of args": "args.attn_scale_factor is",
    "a name of args": "args has a name that is no text, but a",
    "model": "cfg.model is neither", "task": "cfg.task is neither",
    "the task's name": "cfg.task._name is", "a setting of the model": "cfg.model.attn_scale_factor is",
    "a list of the model": "cfg.model.resnet_layers is or contains a",
    "a setting of the task": "cfg.task.patch_image_size is", "extra_state": "extra_state is a",
    "averages": "extra_state.ema is a", "an average": "extra_state.ema: encoder.x is a",
    "an exact average": "extra_state.ema_fp32_params: x is a",
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_what_is_needed_is_refused_by_name(tmp_path: Path, place: str) -> None:
    path, marker = tmp_path / "a.pt", tmp_path / "marker"
    ema = place in ("extra_state", "averages", "an average", "an exact average")
    for number, (said, payload) in enumerate(payloads(marker, MODULE).items()):
        made = needed(place, payload)
        save(path, made, FIRST, old=number % 2 == 1)
        with Watch() as seen, pytest.raises(InputFileError) as caught:
            stored = read(path, allow_pickle=True, ema=ema)
            for name in ("attn_scale_factor", "resnet_layers", "patch_image_size"):
                stored.settings.get(name)
        problem = str(caught.value)
        assert not seen, said
        assert problem.startswith(f"{path}") and "\n" not in problem, said
        assert PLACES[place] in problem, said
        home = said.partition(",")[0]
        assert "." not in home or home.rpartition(".")[2][-20:] in problem or "storage" in place, (said, problem)
        assert [p.name for p in tmp_path.iterdir()] == ["a.pt"], said


@pytest.mark.parametrize("place", PLACES)
def test_the_command_ends_with_one_line(
    tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str], weights: dict[str, Tensor]
) -> None:
    payload = payloads(tmp_path / "marker", MODULE)["os.system, reduce"]
    made = needed(place, payload)
    if isinstance(made, dict) and isinstance(made.get("model"), dict):
        made["model"] |= weights
        del made["model"]["encoder.a"]
    path = save(tmp_path / "a.pt", made, FIRST, *weights.values())
    options = ["--ema"] if "average" in place or place == "extra_state" else []
    run(path, "--out", tmp_path / "out", *options, expect=2)
    assert "--allow-pickle" in capsys.readouterr().err
    run(path, "--out", tmp_path / "out", "--allow-pickle", *options, expect=4)
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert "os.system" in error
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_the_command_passes_over_what_is_not_needed(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    payload = payloads(tmp_path / "marker", MODULE)["os.system, reduce"]
    path = save(tmp_path / "a.pt", everywhere_else(payload, [payload], weights), *weights.values())
    run(path, "--out", tmp_path / "out", "--allow-pickle")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "out"]
