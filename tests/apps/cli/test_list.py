"""`mue-edge list`: what is at hand, and what is wrong with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mue_edge import files
from mue_edge.apps.cli import default_bundle
from tests.apps.cli.conftest import Bundled
from tests.apps.cli.run import Runner

pytest.importorskip("torch")
pytest.importorskip("onnx")


def by_path(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in rows}


def test_nothing_at_hand(run: Runner, bundled: Bundled) -> None:
    done = run("list")
    assert done.code == 0 and done.err == ""
    assert "no bundle and no model folder in ." in done.out and "mue-edge export stickers" in done.out
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["bundled", "stickers", "stickers-entail"]
    assert lines[1].endswith("mue-edge caption stickers PICTURE")
    assert lines[2].endswith('mue-edge entail stickers-entail PICTURE "STATEMENT"')
    found = run("list", "--json").json()
    assert found["bundles"] == found["models"] == [] and len(found["bundled"]) == 2


def test_what_is_at_hand(
    run: Runner,
    bundled: Bundled,
    tiny_bundle: Path,
    tiny_entail_bundle: Path,
    tiny_model_folder: Path,
    tiny_entail_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(tiny_bundle, "mine")
    shutil.copytree(tiny_entail_bundle, "judge")
    shutil.copytree(tiny_model_folder, "model")
    shutil.copytree(tiny_entail_folder, "judge-model")
    shutil.copytree(tiny_bundle, "deep/in/here")  # one level is looked at
    shutil.copytree(tiny_bundle, ".hidden")
    Path("web").mkdir()
    Path("web/manifest.json").write_text('{"start_url": "/"}')  # a web page's
    Path("web/config.json").write_text("[]")
    kept = default_bundle.cached("stickers")
    monkeypatch.setattr(files, "sha256", lambda path: pytest.fail("a file was hashed"))
    found = run("list", "--json").json()
    bundles, models = by_path(found["bundles"]), by_path(found["models"])
    assert set(bundles) == {"mine", "judge", str(kept)} and set(models) == {"model", "judge-model"}
    size = sum(p.stat().st_size for p in tiny_bundle.rglob("*") if p.is_file() and p.name != "manifest.json")
    assert bundles["mine"] == {
        "path": "mine",
        "name": "tiny",
        "task": "caption",
        "target": "host",
        "precision": "fp32",
        "picture": "48x48",
        "bytes": size,
        "policy": "full",
        "evidence": "loop",
        "problem": "",
    }
    assert bundles["judge"]["task"] == "entail"
    weights = tiny_model_folder / "model.safetensors"
    parameters = models["model"].pop("parameters")
    assert 0 < parameters * 4 < weights.stat().st_size < parameters * 4 + 50_000
    assert models["model"] == {
        "path": "model",
        "family": "ofa",
        "layers": "encoder 3, decoder 3",
        "bytes": weights.stat().st_size,
        "picture": "48",
        "tasks": ["caption"],
        "problem": "",
    }
    assert models["judge-model"]["tasks"] == ["entail"]
    text = run("list").out
    for words in ("mine", str(kept), "judge-model", "encoder 3, decoder 3", "evidence", "48x48"):
        assert words in text
    assert "no bundle" not in text and "damaged" not in text


def test_folders_that_are_named(
    run: Runner, bundled: Bundled, tiny_bundle: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    found = run("list", tiny_bundle, tiny_model_folder.parent, tiny_model_folder, "--json").json()
    assert [b["path"] for b in found["bundles"]] == [str(tiny_bundle)]
    assert [m["path"] for m in found["models"]] == [str(tiny_model_folder)]
    assert f"in {bundled.pictures}, " in run("list", bundled.pictures).out
    assert "is no folder" in run("list", tmp_path / "none").error(4)


def test_damaged_ones_do_not_stop_the_rest(
    run: Runner, bundled: Bundled, tiny_bundle: Path, tiny_model_folder: Path
) -> None:
    wrong: dict[str, str] = {}

    def damaged(name: str, origin: Path, says: str) -> Path:
        wrong[name] = says
        return Path(shutil.copytree(origin, name))

    (damaged("cut", tiny_bundle, "is not JSON") / "manifest.json").write_text("{")
    (damaged("file", tiny_bundle, "head.onnx is missing") / "segments" / "head.onnx").unlink()
    (damaged("short", tiny_bundle, "the manifest says") / "constants.bin").write_bytes(b"1")
    manifest = damaged("new", tiny_bundle, "has schema 99") / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema": 99}))
    (damaged("config", tiny_model_folder, "is not JSON") / "config.json").write_text("{")
    (damaged("family", tiny_model_folder, "the family None") / "config.json").write_text("{}")
    (damaged("bare", tiny_model_folder, "model.safetensors") / "model.safetensors").unlink()
    weights = (tiny_model_folder / "model.safetensors").read_bytes()
    (damaged("weights", tiny_model_folder, "cut short") / "model.safetensors").write_bytes(weights[:-9])
    for name, data in (("none", b""), ("noise", b"\7" * 64), ("head", b"\2" + b"\0" * 7 + b"[]")):
        (damaged(name, tiny_model_folder, "model.safetensors") / "model.safetensors").write_bytes(data)
    (damaged("prompts", tiny_model_folder, "prompts.json is not") / "prompts.json").write_text("{")
    shutil.copytree(tiny_bundle, "whole")
    done = run("list", "--json")
    assert done.code == 0, done.err
    found = by_path(done.json()["bundles"] + done.json()["models"])
    assert set(found) == set(wrong) | {"whole"} and found["whole"]["problem"] == ""
    for name, says in wrong.items():
        assert says in found[name]["problem"], name
    text = run("list").out
    assert text.count("\ndamaged: ") == len(wrong) and "whole" in text
