"""The study's runner, with a command in training's place that writes what training writes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from unittest.mock import Mock
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from mue_edge.apps.stickers.dataset import Record
from mue_edge.calibrate.metrics import coco_metrics
from mue_edge.calibrate.training.depths import Captioned
from mue_edge.errors import InputFileError, MueEdgeError, UsageError
from mue_edge.files import sha256
from mue_edge.models.family import Depths
from tools.stickers import study
from tools.stickers.study import ARMS, ENVIRONMENT, VAL, Arm, command, curve, finished, log_of

A, B = Arm("a", "search", "--steps 4 --batch 3"), Arm("b", "comparison", "--steps 4 --last-layer-only")
# Trains two steps a call and is killed before its schedule's end the first time, as its checkpoint says.
FAKE = """
import json, os, sys
from pathlib import Path
out, end = Path(sys.argv[1]), int(sys.argv[2])
log = out / "log.jsonl"
step = len(log.read_text().splitlines()) if log.is_file() else 0
with log.open("a") as file:
    for i in range(step + 1, step + 3):
        file.write(json.dumps({"step": i, "seconds": i, "progress": i / 4, "loss": 4 - i}) + "\\n")
    if i == 4:
        end_line = {"step": 4, "seconds": 5, "progress": 1.0, "val_render exact match": 0.25}
        file.write(json.dumps(end_line) + "\\n")
(out / "model").mkdir(exist_ok=True)
(out / "model" / "model.safetensors").write_bytes(b"weights")
(out / "environment").write_text(os.environ["MALLOC_TOP_PAD_"])
sys.exit(0 if i == 4 else end)
"""


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Names of the arms that were trained, in order; evidence goes to a folder of its own."""
    names: list[str] = []

    def fake(arm: Arm, folder: Path, processes: int, cache: Path | None) -> list[str]:
        names.append(arm.name)
        return [sys.executable, "-c", FAKE, str(folder), "9"]

    monkeypatch.setattr(study, "command", fake)
    monkeypatch.setattr(study, "ARMS", (A, B))
    monkeypatch.setattr(study, "figures", lambda model, cache: {"full": dict.fromkeys(METRICS, ESTIMATE)})
    monkeypatch.setattr(study, "EVIDENCE", tmp_path / "evidence" / "stickers-study.json")
    monkeypatch.setattr(study, "CHART", tmp_path / "docs" / "learning.svg")
    return names


METRICS = ("exact_match", "exact_match_but_tone", "cider_d")
ESTIMATE = {"mean": 0.5, "standard_error": 0.01}


def start(*words: str | Path) -> Result:
    return CliRunner().invoke(study.main, [str(word) for word in words])


def test_arms_go_on_where_they_were_and_finished_ones_are_left_alone(called: list[str], tmp_path: Path) -> None:
    out = tmp_path / "study"
    first = start("--out", out)
    assert isinstance(first.exception, MueEdgeError)
    assert "a stopped (exit code 9)" in str(first.exception)
    assert (called, finished(out / "a")) == (["a"], False)
    second = start("--out", out)
    assert called == ["a", "a", "b"]
    assert finished(out / "a")
    assert isinstance(second.exception, MueEdgeError)  # b's first half
    assert start("--out", out).exit_code == 0
    last = start("--out", out)
    assert called == ["a", "a", "b", "b"]
    assert last.output.splitlines()[:2] == ["a: finished", "b: finished"]
    assert (out / "a" / "environment").read_text() == ENVIRONMENT["MALLOC_TOP_PAD_"]


def test_one_arm_with_its_own_number_of_processes(
    called: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study.main.params[0], "type", study.click.Choice(["a", "b"]))
    out = tmp_path / "study"
    start("--out", out, "--only", "b", "--processes", "1")
    assert called == ["b"]
    other = start("--out", out, "--only", "b", "--processes", "2")
    assert isinstance(other.exception, UsageError)
    assert called == ["b"]
    (out / "a").mkdir()
    (out / "a" / "checkpoint.pt").write_bytes(b"")
    assert isinstance(start("--out", out).exception, UsageError)  # nobody knows what it was begun with
    assert called == ["b"]


def test_collecting_trains_nothing_and_takes_finished_arms_only(called: list[str], tmp_path: Path) -> None:
    out = tmp_path / "study"
    none = start("--out", out, "--collect")
    assert isinstance(none.exception, InputFileError)
    assert not study.EVIDENCE.exists()
    for _ in range(2):
        start("--out", out)
    done = start("--out", out, "--collect")
    assert done.exit_code == 0, done.output
    assert called == ["a", "a", "b"]
    assert "not finished: b" in done.output
    content = json.loads(study.EVIDENCE.read_text(encoding="utf-8"))
    (arm,) = content["arms"]
    assert (arm["name"], arm["purpose"], arm["arguments"]) == ("a", "search", A.arguments)
    assert (arm["steps"], arm["pictures_seen"], arm["seconds"]) == (4, 4 * 3 * 2, 5)
    assert arm["learning_curve"] == {"loss": [[1, 3], [2, 2], [3, 1], [4, 0]], VAL: [[4, 0.25]]}
    assert arm["figures"]["full"]["cider_d"] == ESTIMATE
    assert content["split"] == "val_render"
    assert content["covers"]["tools/stickers/train.py"] == sha256(study.ROOT / "tools/stickers/train.py")[:16]
    ElementTree.fromstring(study.CHART.read_text(encoding="utf-8"))


def test_curves_are_means_between_points() -> None:
    log = [{"step": i, "progress": 0.0, "loss": float(i)} for i in range(1, 51)] + [{"step": 50, VAL: 0.5}]
    thin = curve(log, "loss", 20)
    assert len(thin) == 17
    assert thin[0] == (3, 2.0)
    assert thin[-1] == (50, 49.5)
    assert curve(log, VAL) == [(50, 0.5)]
    assert curve([], "loss") == []


def test_a_line_that_a_kill_left_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "progress": 0.5}\n{"step": 2, "prog', encoding="utf-8")
    assert log_of(tmp_path) == [{"step": 1, "progress": 0.5}]
    assert not finished(tmp_path)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_training_takes_the_arms_arguments(arm: Arm, tmp_path: Path) -> None:
    options = arm.options()
    assert (options["steps"] is None) != (options["minutes"] is None)
    assert options["batch"] > 0
    one, two = (command(arm, tmp_path, n, None) for n in (1, 2))
    assert one[1:3] == ["-m", "tools.stickers.train"]
    assert two[two.index("--nproc-per-node") + 1] == "2"
    assert two[-len(arm.arguments.split()) :] == arm.arguments.split()
    assert len({a.name for a in ARMS}) == len(ARMS)


def test_depths_by_name() -> None:
    assert study.cells((6, 6)) == {
        "full": (6, 6),
        "half_decoder": (6, 3),
        "one_decoder_layer": (6, 1),
        "half_encoder": (3, 6),
        "one_encoder_layer": (1, 6),
    }
    assert study.cells((1, 1))["half_decoder"] == (1, 1)


def test_figures_are_of_val_render_at_each_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    cat, dog = (
        Record(f"noto/{i}", name, name, (name,), (), f"{i}", f"{i}", "noto", "noto", "val_render", "MIT")
        for i, name in enumerate(("a black cat sits", "a white dog runs"))
    )
    asked: list[tuple[str, int, int]] = []

    def caption(
        pupil: object, split: str, depths: list[Depths], *, cache: Path | None
    ) -> tuple[list[Record], list[Captioned]]:
        asked.extend((split, *cell) for cell in depths)
        said = {r.id: {c: r.caption if r is cat or c[1] == 2 else "a cat" for c in depths} for r in (cat, dog)}
        return [cat, dog], [Captioned(r.id, (r.caption,), r.emoji, said[r.id]) for r in (cat, dog)]

    monkeypatch.setattr(shutil, "which", lambda _name: None)  # words are cut without Java: quick
    monkeypatch.setattr(study, "caption", caption)
    monkeypatch.setattr(study, "learner", lambda folder, _decomposed: Mock(model=folder))
    monkeypatch.setattr(study.models, "describe", lambda model: Mock(depths=(4, 2)))
    found = study.figures(Path("model"), None)
    assert asked == [("val_render", 4, 2), ("val_render", 4, 1), ("val_render", 2, 2), ("val_render", 1, 2)]
    assert found["full"]["exact_match"]["mean"] == 1.0
    assert found["half_decoder"] == found["one_decoder_layer"]
    assert found["one_decoder_layer"]["exact_match"]["mean"] == 0.5
    assert (found["half_encoder"]["image_depth"], found["half_encoder"]["decoder_depth"]) == (2, 2)
    if coco_metrics.available():
        assert found["full"]["cider_d"]["mean"] > found["half_decoder"]["cider_d"]["mean"] > 0
