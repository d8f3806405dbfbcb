"""`mue-edge entail`, and calibration by accuracy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands.conftest import Bundled
from tests.commands.run import Runner, picture


def test_answers_with_layers_and_time(run: Runner, tiny_entail_bundle: Path, tmp_path: Path) -> None:
    done = run("entail", tiny_entail_bundle, picture(tmp_path / "a.png"), "a b", "c")
    assert done.code == 0
    assert done.out.count("layers: text 3, image 3, decoder 3") == 2
    assert done.out.split()[0] in ("yes", "no", "maybe")


def test_json_holds_everything(run: Runner, tiny_entail_bundle: Path, tmp_path: Path) -> None:
    policy = tmp_path / "early.json"
    policy.write_text(json.dumps({"rule": "fixed", "depth_text": 1, "depth_decoder": 2}))
    file = picture(tmp_path / "a.png")
    found = run("entail", tiny_entail_bundle, file, "a", "--json", "--trace", "--policy", policy).json()
    assert found["answer"] == max(found["probabilities"], key=found["probabilities"].get)
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert found["exits"] == {"text": 1, "image": 3, "decoder": [2] * 4}
    assert {d["stack"] for d in found["decisions"]} == {"text", "image", "decoder"}


def test_mistakes(run: Runner, tiny_entail_bundle: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    assert "says nothing" in run("entail", tiny_entail_bundle, file, " ").error(2)
    assert "mue-edge caption" in run("entail", tiny_bundle, file, "a").error(2)
    assert "mue-edge entail" in run("caption", tiny_entail_bundle, file).error(2)
    assert "no words for xyz" in run("entail", tiny_entail_bundle, file, "xyz").err


def test_the_bundled_models_name(
    run: Runner, bundled: Bundled, tiny_entail_bundle: Path, tiny_entail_folder: Path
) -> None:
    one = bundled.pictures / "0.png"
    expected = run("entail", tiny_entail_bundle, one, "a b", "--json").json()["probabilities"]
    first, second = (run("entail", "stickers-entail", one, "a b", "--json") for _ in range(2))
    assert first.json()["probabilities"] == second.json()["probabilities"] == expected
    assert "exporting the bundled model stickers-entail" in first.err and second.err == ""
    assert "mue-edge caption stickers PICTURE" in run("entail", "stickers", one, "a").error(2)
    assert "(stickers, stickers-entail)" in run("entail", one, one, "a").error(4)
    assert "mue-edge export" in run("entail", tiny_entail_folder, one, "a").error(4)
    assert bundled.exports == ["stickers-entail-host"]


def test_calibrate_bounds_accuracy(run: Runner, tiny_entail_bundle: Path, tmp_path: Path) -> None:
    import shutil

    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_entail_bundle, bundle)
    rows = []
    for i in range(12):
        picture(tmp_path / f"{i}.png", i)
        rows.append({"image": f"{i}.png", "hypothesis": "abc"[i % 3], "label": ("yes", "no", "maybe")[i % 3]})
    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(
        "calibrate", bundle, "--data", table, "--budget", "95%", "--out", tmp_path / "out",
        "--workers", "1", "--clock", "cpu", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = done.json()
    assert found["loss"] == "accuracy"
    assert found["certificate"]["claim"]["loss"] == "accuracy"
    names = [point["policy"].get("name", "") for point in found["front"]]
    assert names[-1] == "full"
    assert set(found["front"][0]["layers"]) == {"text", "image", "decoder"}
