"""`mue-edge compare` on a tiny model: tables, files, going on, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.commands import calibrated
from tests.commands.run import Runner


@pytest.fixture(scope="module")
def pictures(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return calibrated.captioned(tmp_path_factory.mktemp("pictures"), tiny_bundle, 60)


def test_methods_side_by_side(run: Runner, tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["compare", tiny_bundle, "--static", tiny_bundle, "--data", pictures, "--out", out]
    words += ["--seeds", 2, "--workers", 1, "--drops", "50%", "--savings", "20%", "--limit", 20]
    done = run(*words)
    assert done.code == 0, done.err
    record = json.loads((out / "comparison.json").read_text())
    by_method = {row["method"] for row in record["rows"]} | {none["method"] for none in record["none"]}
    assert {"fixed depths", "mue, as published", "calm-softmax", "best"} < by_method
    assert f"static {tiny_bundle.name}" in by_method
    full = record["full"]
    assert full["time"]["mean"] == full["macs"] == 1 and full["change"]["mean"] == 0
    best = next(row for row in record["rows"] if (row["method"], row["aim"]) == ("best", "≤ 50% loss"))
    assert best["macs"] < 1 and len(best["policies"]) == 2
    assert "| full depth | `full` |" in done.out and "| image 1 |" in done.out
    assert (out / "comparison.md").read_text() in done.out
    assert (out / "comparison.svg").read_text().startswith("<svg")
    again = run(*words, "--json")
    assert again.code == 0, again.err
    chosen = [(row["method"], row["aim"], row["policies"]) for row in record["rows"]]
    assert [(r["method"], r["aim"], r["policies"]) for r in json.loads(again.out)["rows"]] == chosen


def test_models_of_several_seeds_and_of_a_rules_own_training(
    run: Runner, tiny_model_folder: Path, tiny_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    several = tmp_path / "several"
    for seed in range(2):
        shutil.copytree(tiny_bundle, several / f"seed-{seed}")
    words = ["compare", several, "--own", f"calm-softmax,deecap={tiny_model_folder}", "--data", pictures]
    words += ["--seeds", 2, "--workers", 1, "--drops", "50%", "--savings", "20%", "--limit", 70]
    done = run(*words, "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert record["trainings"] == {"several": 2, tiny_model_folder.name: 1}
    rows = {row["method"]: row for row in record["rows"] if row["aim"] == "≤ 50% loss"}
    own = {name: row["own"] for name, row in rows.items() if row["own"]}
    assert own == {"calm-softmax, own training": "calm-softmax", "deecap, own training": "deecap"}
    assert all(len(row["by_seed"]) == len(row["policies"]) == 2 for row in rows.values())
    assert {name.partition("-")[0] for name in (p["name"] for p in rows["best"]["policies"])} != {"deecap"}
    trained = tmp_path / "out" / tiny_model_folder.name / "model"
    assert (trained / "heads.safetensors").is_file()
    assert not (tiny_model_folder / "heads.safetensors").exists()
    assert "| ≤ 50% loss | deecap | – |" in (tmp_path / "out/comparison.md").read_text()
    assert (tmp_path / "out/exits/seed-1/traces").is_dir()


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (["--drops", "3%,none"], "'none' is no share"),
        (["--savings", "120%"], "'120%' is no share"),
        (["--own", "pabe=."], "no rule 'pabe'; rules: "),
        (["--own", "pabee=nowhere"], "no folder 'nowhere'"),
    ],
)
def test_mistakes(run: Runner, tiny_bundle: Path, options: list[str], wrong: str) -> None:
    done = run("compare", tiny_bundle, *options)
    assert done.code == 2 and wrong in done.err


def test_other_peoples_folders_are_left_alone(run: Runner, tiny_bundle: Path, pictures: Path) -> None:
    done = run("compare", tiny_bundle, "--data", pictures, "--out", pictures.parent)
    assert done.code == 2 and "holds no comparison" in done.err
