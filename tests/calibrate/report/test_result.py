"""What a calibration writes: files that agree with one another and with the bundle, and plain words."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mue_edge.bundle.folder import open_bundle
from mue_edge.bundle.manifest import MANIFEST
from mue_edge.bundle.policy_files import from_json
from mue_edge.calibrate.certificate import claim
from mue_edge.calibrate.policies.calibration import Calibration
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator
from mue_edge.calibrate.report import result
from mue_edge.errors import EnvironmentLacksError
from tests.calibrate.made_calibration import calibration, evaluator

ASKED = {"model": "my model", "budget": "30ms", "kind": "csv", "max_drop": "10%", "device": None}
FILES = {"plan.json", "front.json", "calibration.json", "pareto.png", "report.html"}
LIVE = {"full": np.array([0.02, 0.04]), "safe": np.array([0.01, 0.03]), "quick": np.array([0.01, 0.01])}


@pytest.fixture
def here(tmp_path: Path) -> PolicyEvaluator:
    return evaluator(tmp_path)


def lines(folder: Path, made: Calibration, live: Any = None) -> dict[str, str]:
    """The summary by its first words."""
    written = result.write(folder, made, ASKED, live)
    return {line[:12].strip(): line[12:] for line in written}


def read(path: Path) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_files_and_bundle_agree(tmp_path: Path, here: PolicyEvaluator) -> None:
    pytest.importorskip("matplotlib")
    made = calibration(here)
    result.write(tmp_path, made, ASKED, LIVE)
    assert {p.name for p in tmp_path.iterdir() if p.is_file()} == FILES
    manifest = open_bundle(here.session.bundle.path, paranoid=True).manifest
    front = read(tmp_path / "front.json")
    assert front["chosen"] == manifest.chosen == "safe" and front["plan"] == manifest.plan_hash
    assert tuple(front["policies"]) == manifest.front
    policies = [from_json(p) for p in front["policies"]]
    assert [p.name for p in policies] == ["quick", "safe", "full"]
    assert all(p.plan == manifest.plan_hash and p.seconds and p.quality for p in policies)
    assert read(tmp_path / "plan.json") == manifest.plan
    with Image.open(tmp_path / "pareto.png") as picture:
        assert picture.size == (1000, 650)


def test_the_record_has_everything(tmp_path: Path, here: PolicyEvaluator) -> None:
    pytest.importorskip("matplotlib")
    made = calibration(here)
    result.write(tmp_path, made, ASKED, LIVE)
    record = read(tmp_path / "calibration.json")
    assert record["certificate"] == json.loads(json.dumps(claim.to_json(made.certificate)))
    assert record["budget_ms"] == pytest.approx(20) and record["floor_ms"] == pytest.approx(12)
    assert (record["primary"], record["chosen"], record["fastest_certified"]) == ("safe", "safe", "quick")
    assert record["live"]["safe"]["of_full_depth"] == pytest.approx(0.625)
    assert record["live"]["full"]["late"] == 1
    assert record["data"]["certify"]["clusters"] == 4 and record["data"]["certify"]["pictures"] == 8
    assert record["profile"]["label"] == here.profile.label and "segments" not in record["profile"]
    assert record["drop_bound_of_primary"] == 0.08 and record["clusters_needed"] == 900
    assert [s["auc"] for s in record["signals"]] == [1.0, 0.5, 0.0]
    assert record["asked"]["budget"] == "30ms" and record["changed_captions"] == 1


def test_the_terminal_says_it_in_short(tmp_path: Path, here: PolicyEvaluator) -> None:
    pytest.importorskip("matplotlib")
    said = lines(tmp_path, calibration(here), LIVE)
    assert said["budget"] == "20 ms for 95% of the captions; the least here is 12 ms"
    assert said["chosen"].startswith("safe, certified; layers run: image 3.00, text 3.00, decoder 2.00")
    assert here.profile.label in said["predicted"]
    assert said["live"].startswith("mean 20 ms") and "1 of 2 later than the budget" in said["live"]
    assert "CPU" not in said["live"]
    assert lines(tmp_path, calibration(replace(here, clock="cpu")), LIVE)["live"].endswith("(CPU time)")
    assert "102.5% of full depth's" in said["quality"]
    assert said["certificate"].startswith("With confidence 0.9") and said["fastest"].startswith("quick")
    assert said["next"] == f"mue-edge caption {tmp_path / 'bundle'} PICTURE"
    assert all(str(tmp_path / name) in said["files"] for name in FILES)


def test_what_fits_what_is_not_certified_and_what_was_not_timed_is_said(tmp_path: Path, here: PolicyEvaluator) -> None:
    pytest.importorskip("matplotlib")
    generous = lines(tmp_path, replace(calibration(here, "full"), budget=1.0))
    assert "full depth keeps it already" in generous["budget"] and generous["fastest"].startswith("quick")
    assert "live" not in generous
    failed = lines(tmp_path, calibration(here, certified=()))
    assert "safe, not certified" in failed["chosen"] and "fastest" not in failed
    assert failed["certificate"].startswith("Nothing is certified")


def test_an_estimate_says_so(tmp_path: Path, here: PolicyEvaluator) -> None:
    pytest.importorskip("matplotlib")
    estimate = replace(here.profile, kind="estimate", noise=None, error=None, device="a board far away")
    said = lines(tmp_path, calibration(replace(here, profile=estimate)))
    assert "estimate for a board far away" in said["estimated"] and "predicted" not in said
    assert "estimate for a board far away" in (tmp_path / "report.html").read_text()


def test_without_matplotlib_nothing_is_touched(
    tmp_path: Path, here: PolicyEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (here.session.bundle.path / MANIFEST).read_bytes()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentLacksError, match=r"mue-edge\[calibrate\]"):
        result.write(tmp_path, calibration(here), ASKED, None)
    assert not any((tmp_path / name).exists() for name in FILES)
    assert (here.session.bundle.path / MANIFEST).read_bytes() == before


def test_the_command_can_be_pasted() -> None:
    assert result.command(ASKED) == "mue-edge calibrate 'my model' --budget 30ms --format csv --max-drop 10%"


def test_the_picture_is_drawn_where_the_figures_are(tmp_path: Path, here: PolicyEvaluator) -> None:
    """The budget's red line stands further right when there is more of it."""
    pytest.importorskip("matplotlib")

    def column(budget: float) -> float:
        result.write(tmp_path, replace(calibration(here), budget=budget), ASKED, None)
        pixels = np.asarray(Image.open(tmp_path / "pareto.png").convert("RGB")).astype(int)
        # Above the legend and beside the stars: the dashed line is what is red in the middle rows.
        red = (pixels[150:400, :, 0] - pixels[150:400, :, 2] > 60).sum(axis=0)
        return float(red.argmax())

    assert column(0.010) < column(0.014) < column(0.018)
