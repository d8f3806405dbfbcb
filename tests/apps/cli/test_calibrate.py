"""`mue-edge calibrate` on a tiny model: files, choices, refusals, going on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mue_edge.bundle.folder import open_bundle
from tests.apps.cli import calibrated
from tests.apps.cli.run import Runner

pytest.importorskip("matplotlib")
PICTURES = 36


@pytest.fixture(scope="module")
def pictures(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return calibrated.captioned(tmp_path_factory.mktemp("pictures"), tiny_bundle, PICTURES)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))


@pytest.fixture
def elsewhere(bundle: Path, tmp_path: Path) -> Path:
    return calibrated.elsewhere(tmp_path / "elsewhere.json", bundle)


def test_a_bundle_gets_a_front_and_a_report(run: Runner, bundle: Path, pictures: Path, elsewhere: Path) -> None:
    out = bundle.with_name("out")
    options = ("--data", pictures, "--profile", elsewhere, "--out", out, "--workers", "1")
    done = run("calibrate", bundle, "--budget", "80%", *options)
    assert done.code == 0, done.err
    assert "clusters to certify on" in done.err
    for name in ("plan.json", "front.json", "calibration.json", "pareto.png", "report.html"):
        assert (out / name).stat().st_size > 0
    record = json.loads((out / "calibration.json").read_text())
    certificate = record["certificate"]
    assert not any("p_latency" in tested for tested in certificate["tested"])
    assert "no certificate of latency" in certificate["statement"].lower() or not certificate["chosen"]
    manifest = open_bundle(bundle).manifest
    front = manifest.policies()
    assert list(front)[-1] == "full"
    assert manifest.chosen in front
    assert all(policy.plan == manifest.plan_hash for policy in front.values())
    assert "mue-edge caption" in done.out
    tighter = run("calibrate", bundle, "--budget", "60%", *options, "--json")
    assert tighter.code == 0, tighter.err
    again = json.loads(tighter.out)
    assert again["budget_ms"] < record["budget_ms"]


def test_a_bundle_is_calibrated_without_torch(bundle: Path, pictures: Path, elsewhere: Path) -> None:
    words = ["calibrate", str(bundle), "--budget", "80%", "--data", str(pictures), "--profile", str(elsewhere)]
    words += ["--out", str(bundle.with_name("out")), "--workers", "1"]
    code = "import sys; sys.modules['torch'] = None\nfrom mue_edge.apps.cli.main import main\n"
    code += f"main({words!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_budgets_that_cannot_be_met(run: Runner, bundle: Path, pictures: Path, elsewhere: Path) -> None:
    options = ("--data", pictures, "--profile", elsewhere, "--out", bundle.with_name("out"), "--workers", "1")
    before = (bundle / "manifest.json").read_bytes()
    done = run("calibrate", bundle, "--budget", "1ms", *options)
    assert done.code == 3
    assert "the least is" in done.err
    assert "keeps" in done.err
    assert (bundle / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("budget", ["-3ms", "nan", "inf", "fifty", "120%", "0%", "0ms", "50"])
def test_budgets_that_are_none(run: Runner, bundle: Path, budget: str) -> None:
    done = run("calibrate", bundle, f"--budget={budget}")
    assert done.code == 2
    assert budget.strip("-") in done.err


def test_pictures_without_captions_give_consistency(
    run: Runner, bundle: Path, pictures: Path, elsewhere: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for file in pictures.glob("*.png"):
        shutil.copy(file, plain / file.name)
    out = tmp_path / "out"
    done = run("calibrate", bundle, "--budget", "100%", "--data", plain, "--profile", elsewhere, "--out", out)
    assert done.code == 0, done.err
    record = json.loads((out / "calibration.json").read_text())
    assert record["certificate"]["claim"]["loss"] == "consistency"


def test_refusals(run: Runner, bundle: Path, pictures: Path, elsewhere: Path, tmp_path: Path) -> None:
    for options, words in (
        ((), "brings no pictures"),
        (("--data", pictures, "--precision", "int8"), "precision cannot be changed"),
        (("--data", pictures, "--max-drop", "three"), "no share between 0 and 1"),
        (("--data", pictures, "--confidence", "1.5"), "confidence"),
        (("--data", pictures, "--profile", elsewhere, "--threads", "2"), "threads"),
        (("--data", pictures, "--profile", elsewhere, "--clock", "cpu"), "wall clock"),
        (("--data", pictures, "--device", "toaster"), "toaster"),
    ):
        done = run("calibrate", bundle, "--budget", "50%", "--out", tmp_path / "out", *options)
        assert done.code == 2, done.err
        assert words in done.err
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("x")
    done = run("calibrate", bundle, "--budget", "50%", "--data", pictures, "--out", full)
    assert done.code == 2
    assert "holds no calibration" in done.err
    assert [p.name for p in full.iterdir()] == ["mine.txt"]


def test_a_model_folder_is_exported_profiled_and_kept(
    run: Runner, tiny_model_folder: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("calibrate", tiny_model_folder, "--budget", "100%", "--data", pictures, "--out", out)
    first = run(*words, "--clock", "cpu", "--workers", "1")
    assert first.code == 0, first.err
    assert "exporting" in first.err
    assert "live" in first.err
    made = (out / "profile.json").read_bytes()
    front = json.loads((out / "calibration.json").read_text())["front"]
    second = run(*words, "--clock", "cpu", "--workers", "1")
    assert second.code == 0, second.err
    assert "exporting" not in second.err
    assert (out / "profile.json").read_bytes() == made
    assert json.loads((out / "calibration.json").read_text())["front"] == front
    other = run(*words, "--image-size", "64")
    assert other.code == 2
    assert "another model, target or plan" in other.err


def test_plans_are_tried_first(
    run: Runner, tiny_model_folder: Path, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("--budget", "100%", "--data", pictures, "--out", out, "--clock", "cpu", "--workers", "1")
    done = run("calibrate", tiny_model_folder, *words, "--plans", "2")
    assert done.code == 0, done.err
    assert "best of 2 plans" in done.err
    assert (out / "bundle" / "manifest.json").is_file()
    for options, words_said in (
        ((bundle,), "plans cannot be changed"),
        ((tiny_model_folder, "--precision", "int8"), "leave out"),
    ):
        refused = run(
            "calibrate", *options, "--budget", "50%", "--data", pictures, "--out", tmp_path / "x", "--plans", "2"
        )
        assert refused.code == 2
        assert words_said in refused.err


def test_a_joint_encoder_leaves_early_where_that_pays(run: Runner, tiny_model_folder: Path, tmp_path: Path) -> None:
    """OFA's own encoder was not trained for exits: a plan has boundaries there only if asked to."""
    folder, bundle = tmp_path / "joint", tmp_path / "bundle"
    shutil.copytree(tiny_model_folder, folder)
    config = json.loads((folder / "config.json").read_text()) | {"decomposed": False}
    (folder / "config.json").write_text(json.dumps(config))
    assert run("export", folder, "--out", tmp_path / "whole").code == 0
    assert open_bundle(tmp_path / "whole").manifest.layout.picture.ends == (3,)
    assert run("export", folder, "--plan", "per-layer", "--out", bundle).code == 0
    stack = open_bundle(bundle).manifest.layout.picture
    assert (stack.name, stack.ends, stack.trained) == ("encoder", (1, 2, 3), False)
    data = calibrated.captioned(tmp_path / "pictures", bundle, PICTURES)
    times = calibrated.elsewhere(tmp_path / "elsewhere.json", bundle)
    words = ("--data", data, "--profile", times, "--out", tmp_path / "out", "--workers", "1")
    done = run("calibrate", bundle, "--budget", "70%", *words)
    assert done.code == 0, done.err
    front = open_bundle(bundle).manifest.policies().values()
    assert any("encoder" in policy.exits for policy in front)
    assert run("caption", bundle, data / "0.png", "--json").json()["exits"]["encoder"] <= 3
