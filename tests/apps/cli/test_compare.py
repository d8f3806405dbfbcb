"""`mue-edge compare` on a tiny model: tables, files, going on, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from mue_edge.apps.cli.commands.measure import compare
from mue_edge.calibrate.data.samples import of_pictures
from mue_edge.calibrate.plans import vocabulary
from mue_edge.calibrate.plans.vocabulary import LargeHead
from mue_edge.calibrate.report import comparison_page
from mue_edge.models.heads import KINDS
from tests.apps.cli import calibrated
from tests.apps.cli.run import Runner


@pytest.fixture(scope="module")
def pictures(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return calibrated.captioned(tmp_path_factory.mktemp("pictures"), tiny_bundle, 60)


def test_methods_side_by_side(
    run: Runner, tiny_bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, several, own = tmp_path / "out", tmp_path / "several", tmp_path / "own"
    for folder in (several / "seed-0", several / "seed-1", own):
        shutil.copytree(tiny_bundle, folder)
    words = ["compare", tiny_bundle, "--static", several, "--own", f"pabee,deecap={own}", "--data", pictures]
    for place in ("exits", "several/seed-0", "several/seed-1", "own"):  # profiles are dear
        (out / place).mkdir(parents=True)
        calibrated.elsewhere(out / place / "profile.json", tiny_bundle)
    words += ["--out", out, "--clock", "wall"]
    words += ["--seeds", 2, "--workers", 1, "--drops", "50%", "--savings", "20%", "--limit", 20]
    done = run(*words)
    assert done.code == 0, done.err
    record = json.loads((out / "comparison.json").read_text())
    by_method = {row["method"] for row in record["rows"]} | {none["method"] for none in record["none"]}
    assert {"fixed depths", "mue, as published", "calm-softmax", "best"} < by_method
    assert {"static several", "pabee, own training"} < by_method
    assert record["trainings"] == {tiny_bundle.name: 1, "several": 2, "own": 1}
    assert {row["method"]: row["own"] for row in record["rows"] if row["own"]} == {"pabee, own training": "pabee"}
    assert all(len(row["by_seed"]) == len(row["policies"]) == 2 for row in record["rows"])
    full = record["full"]
    assert full["time"]["mean"] == full["macs"] == 1 and full["change"]["mean"] == 0
    best = next(row for row in record["rows"] if (row["method"], row["aim"]) == ("best", "≤ 50% loss"))
    assert best["macs"] < 1 and len(best["policies"]) == 2
    assert "| full depth | `full` |" in done.out and "| image 1 |" in done.out
    assert (out / "comparison.md").read_text() in done.out and "| ≤ 50% loss | pabee |" in done.out
    assert (out / "several/seed-1/traces").is_dir()
    assert (out / "comparison.svg").read_text().startswith("<svg")
    again = run(*words, "--json")
    assert again.code == 0, again.err
    chosen = [(row["method"], row["aim"], row["policies"]) for row in record["rows"]]
    assert [(r["method"], r["aim"], r["policies"]) for r in json.loads(again.out)["rows"]] == chosen
    # Beside it with a head of 40 layers.
    monkeypatch.setattr(vocabulary, "measured", lambda words, step: LargeHead(words, 40.0, "ofa-base", 1.0))
    large = run(*words, "--vocabulary", 59_457, "--json")
    assert large.code == 0, large.err
    projected = json.loads((out / "comparison-59457.json").read_text())
    assert projected == json.loads(large.out) and json.loads((out / "comparison.json").read_text()) != projected
    assert projected["projection"] == {"words": 59_457, "layers": 40.0, "size": "ofa-base", "twin": 1.0}
    assert "**A projection.**" in (out / "comparison-59457.md").read_text()
    assert "projection" not in record and "**A projection.**" not in (out / "comparison.md").read_text()
    full = projected["full"]
    assert full["time"]["mean"] == 1 and projected["twin"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    winners = comparison_page.winners({"2,058": record, "59,457": projected})
    assert winners.startswith("| aim | 2,058 | 59,457 |") and "| ≤ 50% loss | " in winners


def test_heads_that_a_model_lacks_are_trained_on_the_tuning_pictures(
    tiny_model_folder: Path, tiny_bundle: Path, tiny_entail_folder: Path, pictures: Path, tmp_path: Path
) -> None:
    """Of captions and of answers; a bundle stays as it is."""
    tune = of_pictures(sorted(pictures.glob("*.png"))[:20], "pictures")
    made = compare._with_heads(tiny_model_folder, tmp_path / "exits/model", tune, 0)
    assert made == tmp_path / "exits/model" and (made / "heads.safetensors").is_file()
    assert not (tiny_model_folder / "heads.safetensors").exists()
    asked = tuple(replace(sample, source=(0, 29, 4, 5, 28, 2)) for sample in tune.samples)
    judging = compare._with_heads(tiny_entail_folder, tmp_path / "judging", replace(tune, samples=asked), 0)
    kinds = [{key.partition(".")[0] for key in load_file(m / "heads.safetensors")} for m in (made, judging)]
    assert kinds == [set(KINDS)] * 2
    assert compare._with_heads(tiny_bundle, tmp_path / "other", tune, 0) == tiny_bundle


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
