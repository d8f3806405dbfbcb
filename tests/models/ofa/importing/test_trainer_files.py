"""Files as trainers leave them: numbers of numpy, classes that are not here, averages, optimizer state."""

from __future__ import annotations

import collections
import pathlib
import sys
import types
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mue_edge.errors import InputFileError, UsageError
from mue_edge.models import torch_files
from mue_edge.models.ofa.importing import weights as checkpoint
from mue_edge.models.ofa.importing.contents import ALIASES
from mue_edge.models.ofa.importing.files import read
from mue_edge.models.weights import stored_weights
from tests.models.ofa import checkpoints
from tests.models.ofa.importing.test_checkpoint import check_same, run
from tests.models.ofa.tiny import make


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Instances of classes whose modules are gone when the file is read, as OmegaConf's and fairseq's are."""
    made = {}
    for home, what, base in (
        ("omegaconf.dictconfig", "DictConfig", object),
        ("fairseq.meters", "AverageMeter", object),
        ("fairseq.data.dictionary", "Dictionary", list),
        ("fairseq.tasks.some", "State", dict),
    ):
        kind = type(what, (base,), {"__module__": home, "__reduce_ex__": object.__reduce_ex__})
        parts = home.split(".")
        for end in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(home))
        setattr(sys.modules[home], what, kind)
        made[what] = kind()
    made["DictConfig"].__dict__ |= {"_content": {"a": 1}, "_parent": made["DictConfig"]}
    made["AverageMeter"].val = torch.ones(2)
    made["Dictionary"] += ["word", made["AverageMeter"]]
    made["State"] |= {"x": np.arange(4)}
    return made


def trained(absent: dict[str, Any], weights: dict[str, Tensor]) -> dict[str, Any]:
    model: Any = checkpoints.settings(make().config)
    size = {"patch_image_size": model.pop("patch_image_size"), "num_bins": 1000, "code_dict_size": 8192}
    task = {"_name": "caption", "data": pathlib.PurePosixPath("/data")} | size
    meter = absent["AverageMeter"]
    numbers = {
        "val_loss": np.float64(1.25), "best": np.float32(2.5), "count": np.int64(3), "flag": np.bool_(True),
        "history": np.linspace(0, 1, 50), "objects": np.array([absent["State"], None], dtype=object),
    }  # fmt: skip
    return {
        "args": None,
        "cfg": {"_name": None, "common": absent["DictConfig"], "model": Namespace(**model), "task": task},
        "model": weights,
        "criterion": absent["State"],
        "optimizer_history": [{"lr_scheduler_state": {"best": np.float64(0.5)}, "meter": meter}],
        "task_state": absent["Dictionary"],
        "extra_state": numbers | {"metrics": collections.defaultdict(list, a=[meter])},
        "last_optimizer_state": {"state": {i: {"exp_avg": torch.zeros(3)} for i in range(4)}},
    }


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("form", ["new", "old", "numpy 1", "protocol 4"])
def test_a_trainer_s_file(
    tmp_path: Path, absent: dict[str, Any], form: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, path = make(), tmp_path / "a.pt"
    dtype = getattr(torch, kind)
    weights = {
        key: value.to(dtype) if value.is_floating_point() else value for key, value in checkpoints.state(source).items()
    }
    torch.save(
        trained(absent, weights),
        path,
        pickle_protocol=4 if form == "protocol 4" else 2,
        _use_new_zipfile_serialization=form not in ("old", "numpy 1"),
    )
    if form == "numpy 1":
        data = path.read_bytes()
        assert b"numpy._core." in data
        path.write_bytes(data.replace(b"numpy._core.", b"numpy.core."))
    else:
        expected = torch.load(path, weights_only=False)["model"]
        stored = read(path, allow_pickle=True)
        assert stored.weights.keys() == expected.keys()
        for key, value in stored.weights.items():
            assert value.dtype == expected[key].dtype
            assert value.float().numpy().tobytes() == expected[key].float().numpy().tobytes()
    for home in [home for home in sys.modules if home.startswith(("omegaconf", "fairseq"))]:
        monkeypatch.delitem(sys.modules, home)
    run(path, "--out", tmp_path / "out", "--allow-pickle")
    got = stored_weights(check_same(tmp_path / "out", source_of(source, dtype)))
    for key, value in stored_weights(source).items():
        assert got[key].numpy().tobytes() == value.to(dtype).float().numpy().tobytes()
    assert not any(home.startswith(("omegaconf", "fairseq")) for home in sys.modules)


def source_of(model: Any, dtype: torch.dtype) -> Any:
    made = make()
    made.load_state_dict({k: v.to(dtype).to(v.dtype) for k, v in model.state_dict().items()})
    return made


def test_a_needed_setting_of_an_absent_class_is_named(tmp_path: Path, absent: dict[str, Any]) -> None:
    content = trained(absent, checkpoints.state(make()))
    content["cfg"]["model"].attn_scale_factor = absent["DictConfig"]
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputFileError, match=r"cfg\.model\.attn_scale_factor .* omegaconf\.dictconfig\.DictConfig"):
        checkpoint.convert(read(tmp_path / "a.pt", allow_pickle=True))


def test_settings_that_never_end(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    wide: Any = "x"
    for _ in range(60):
        wide = [wide, wide]
    deep: Any = ()
    for _ in range(300):
        deep = (deep,)
    path = tmp_path / "a.pt"
    for value in (loop, wide, deep, "x" * 10_000, 1 << 20_000):
        checkpoints.fairseq(path, make(), dropout=value)
        checkpoint.convert(read(path, allow_pickle=True))
        checkpoints.fairseq(path, make(), attn_scale_factor=value)
        with pytest.raises(InputFileError) as caught:
            checkpoint.convert(read(path, allow_pickle=True))
        assert len(str(caught.value)) < 2000


# ---- averages ----------------------------------------------------------------------------------------------


def with_averages(path: Path, *, exact: bool, prefix: str = "") -> dict[str, Tensor]:
    """A file whose average is float16 and, if `exact`, float32 too; what should be imported."""
    plain = checkpoints.state(make())
    names = {key for key in stored_weights(make()) if "running" not in key}
    names |= {"decoder.embed_tokens.weight", "decoder.output_projection.weight"}
    true = {key: plain[key] + 0.1 for key in names}
    checkpoints.fairseq(path, make(), weights=plain)
    content = torch.load(path, weights_only=False)
    content["extra_state"]["ema"] = {prefix + key: value.half() for key, value in true.items()}
    if exact:
        content["extra_state"]["ema_fp32_params"] = {prefix + key: value for key, value in true.items()}
        content["extra_state"]["ema_fp32_params"][prefix + "__sq_mom__.x"] = torch.zeros(2)
    torch.save(content, path)
    kept = {key: value if exact else value.half().float() for key, value in true.items()}
    return {key: kept.get(key, plain[key]) for key in stored_weights(make())}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("exact", [False, True])
def test_averages(tmp_path: Path, exact: bool, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    expected = with_averages(tmp_path / "a.pt", exact=exact, prefix=prefix)
    run(tmp_path / "a.pt", "--out", tmp_path / "out", "--allow-pickle", "--ema")
    assert "averaged (EMA) weights are imported" in capsys.readouterr().err
    source = make()
    source.load_state_dict(expected, strict=False)
    check_same(tmp_path / "out", source)
    run(tmp_path / "a.pt", "--out", tmp_path / "plain", "--allow-pickle")
    assert "--ema imports them" in capsys.readouterr().err
    check_same(tmp_path / "plain", make())


@pytest.mark.parametrize("table", ["ema", "ema_fp32_params"])
def test_averages_that_hold_a_tied_embedding_once(tmp_path: Path, table: str) -> None:
    """A table of parameters has no names for its copies; those of the plain weights are older."""
    expected = with_averages(tmp_path / "a.pt", exact=table == "ema_fp32_params")
    content = torch.load(tmp_path / "a.pt", weights_only=False)
    for alias in ALIASES:
        del content["extra_state"][table][alias]
    torch.save(content, tmp_path / "a.pt")
    run(tmp_path / "a.pt", "--out", tmp_path / "out", "--allow-pickle", "--ema")
    source = make()
    source.load_state_dict(expected, strict=False)
    check_same(tmp_path / "out", source)


def test_no_averages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoints.fairseq(tmp_path / "a.pt", make())
    folder = checkpoints.hugging_face(tmp_path / "hf", make())
    for source in (path, folder):
        run(source, "--out", tmp_path / "out", "--allow-pickle", "--ema", expect=4)
        assert "holds no averaged (EMA) weights" in capsys.readouterr().err
    run("--random", "ofa-tiny", "--ema", "--out", tmp_path / "out", expect=2)
    content = torch.load(path, weights_only=False) | {"extra_state": {"ema": {}}}
    torch.save(content, path)
    with pytest.raises(InputFileError, match="no averaged"):
        read(path, allow_pickle=True, ema=True)
    with pytest.raises(UsageError, match="--allow-pickle"):
        read(path, ema=True)


# ---- what is not read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
def test_optimizer_state_is_not_read(tmp_path: Path, old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoints.fairseq(tmp_path / "a.pt", make())
    content = torch.load(path, weights_only=False)
    content["last_optimizer_state"] = {i: torch.ones(1 << 20) for i in range(4)}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    asked: list[int] = []

    def counting(source: Any, offset: int, count: int) -> Tensor:
        asked.append(count)
        return torch.frombuffer(source, dtype=torch.uint8, offset=offset, count=count)

    monkeypatch.setattr(torch_files, "_bytes", counting)
    checkpoint.convert(read(path, allow_pickle=True))
    held = sum(value.numel() * value.itemsize for value in content["model"].values())
    assert sum(asked) == held
