"""The evidence and comparison commands from end to end, on a tiny model and a made-up set."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mue_edge.apps.stickers.dataset import Record
from mue_edge.calibrate.metrics import coco_metrics
from tests.calibrate import captioned
from tools.stickers import compare, evidence
from tools.stickers.figures import SPLITS, UNION

CARD = "".join(f"<!-- evidence: {name} -->\n<!-- /evidence -->\n" for name in ("stickers-card", "stickers-comparison"))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder (`model`, log.jsonl), the recipe's output in `cache`, and a card."""
    root = tmp_path_factory.mktemp("stickers")
    captioned.model_folder(root / "run" / "model")
    (root / "run" / "log.jsonl").write_text('{"step": 7, "seconds": 120.0}\n', encoding="utf-8")
    records = [
        Record(f"{split}/{i}", "", "red", ("red",), (), f"{split}{i}", "", "noto", "", split, "MIT")
        for split in SPLITS
        for i in range(3)
    ]
    (root / "cache").mkdir()
    (root / "cache" / "index.json").write_text(json.dumps([asdict(r) for r in records]), encoding="utf-8")
    pixels = np.random.default_rng(0).integers(0, 255, (len(records), 32, 32, 4), np.uint8)
    np.save(root / "cache" / "pixels-96.npy", pixels)
    return root


@pytest.fixture(autouse=True)
def without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)  # METEOR takes seconds to start


def test_evidence(places: Path) -> None:
    card = places / "page" / "CARD.md"
    card.parent.mkdir()
    card.write_text(CARD, encoding="utf-8")
    out, drawn = places / "out" / "e.json", places / "docs" / "map.svg"
    options = ["--model", str(places / "run" / "model"), "--cache", str(places / "cache"), "--out", str(out)]
    run = CliRunner().invoke(evidence.main, [*options, "--card", str(card), "--map", str(drawn)])
    assert run.exit_code == 0, run.output
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["layers"] == [2, 2]
    assert found["splits"][UNION]["samples"] == 6
    assert len(found["by_depth"]["test_vendor"]) == 4
    assert len(found["test_render_failures"]) == 3
    assert "| test_render/" in card.read_text(encoding="utf-8")
    assert "by depth" in drawn.read_text(encoding="utf-8")
    assert Image.open(card.parent / "failures.webp").size[0] > 900


@pytest.mark.skipif(not coco_metrics.available(), reason="pycocoevalcap is not installed")
def test_comparison(places: Path) -> None:
    card, out, run = places / "CARD.md", places / "comparison.json", str(places / "run")
    card.write_text(CARD, encoding="utf-8")
    arms = ["--full", run, "--one-layer", run, "--last-layer", run]
    options = ["--cache", str(places / "cache"), "--out", str(out), "--card", str(card), "--limit", "2"]
    done = CliRunner().invoke(compare.main, [*arms, *options])
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["arms"]["all exits"]["step"] == 7
    assert [q["what"] for q in found["questions"]] == ["one decoder layer", "full depth"]
    same = found["questions"][1]["splits"][UNION]["exact_match"]
    assert same["shared"] == same["alone"]
    assert "| last layer's loss only | 2 | 7 | 2 |" in card.read_text(encoding="utf-8")
