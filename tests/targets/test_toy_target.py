"""A target is a TOML and a module: a toy of one, without a line elsewhere."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import mue_edge
from mue_edge import targets
from mue_edge.targets import host
from tests.apps.cli.run import Runner, picture

TOML = """
title = "A toy"
runtime = "onnxruntime"
versions = ">=1.20,<2"
extra = "host"
format = "onnx"
precisions = ["fp32"]
calls = "grouped"
rung = "loop"
verified_on = "this test"

[segments]
image = 2
text = 2
decoder = 2
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "targets"
    folder.mkdir()
    for path in targets.FOLDER.glob("*.toml"):
        shutil.copy(path, folder)
    (folder / "toy.toml").write_text(TOML)
    module = ModuleType("mue_edge.targets.toy")
    module.open_runtime = host.open_runtime  # type: ignore[attr-defined]
    monkeypatch.setattr(targets, "FOLDER", folder)
    monkeypatch.setitem(sys.modules, "mue_edge.targets.toy", module)
    return "toy"


def test_a_toy_target_exports_and_captions(
    capsys: pytest.CaptureFixture[str], toy: str, tiny_model_folder: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    run, out, shown = Runner(capsys), tmp_path / "bundle", picture(tmp_path / "a.png")
    assert "A toy" in run("targets").out
    done = run("export", tiny_model_folder, "--target", toy, "--out", out)
    assert done.code == 0, done.err
    with mue_edge.open(out, threads=1) as captioner:
        ends = {stack.name: stack.ends for stack in captioner.layout.stacks if stack.stages}
        assert ends == {"image": (2, 3), "decoder": (2, 3)}
        mine = captioner.caption(shown)
    with mue_edge.open(tiny_bundle, threads=1) as captioner:
        assert captioner.caption(shown).tokens == mine.tokens
    assert run("verify", out).code == 0
    assert "toy" in run("export", tiny_model_folder, "--target", "toi").error(2)
