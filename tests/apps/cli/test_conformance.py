"""`mue-edge conformance`: the kit passes its own check, and no changed log does."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.apps.cli.run import Runner

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def kit(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from click.testing import CliRunner

    from mue_edge.apps.cli.commands.measure.conformance import command

    place = tmp_path_factory.mktemp("kits") / "kit"
    done = CliRunner().invoke(command, [str(tiny_bundle), "--out", str(place)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return place


@pytest.fixture
def logs(kit: Path) -> Any:
    return json.loads((kit / "logs.json").read_text())


def early(logs: Any) -> Any:
    """A log in which the decoder leaves by its score."""
    return next(
        log
        for log in logs["logs"]
        if any(d["stack"] == "decoder" and d["exit"] and d["threshold"] for d in log["decisions"])
    )


def test_a_kit_is_complete(kit: Path, logs: Any) -> None:
    assert sorted(p.name for p in kit.iterdir()) == ["README.md", "logs.json", "pictures"]
    assert len(list((kit / "pictures").glob("*.png"))) == 4
    assert len(logs["logs"]) == 8  # golden pictures, full depth and the median policy
    assert {call["run"].partition(".")[0] for log in logs["logs"] for call in log["calls"]} >= {
        "stem",
        "image",
        "embed",
        "cross_kv",
        "decoder",
        "fill",
        "head",
    }
    assert early(logs)


def test_its_own_log_passes(run: Runner, kit: Path, tiny_bundle: Path) -> None:
    done = run("conformance", tiny_bundle, "--check", kit / "logs.json")
    assert done.code == 0, done.err
    assert "8 logs: every segment, exit and token follows" in done.out


def flip_a_decision(logs: Any) -> None:
    test = next(d for d in early(logs)["decisions"] if d["stack"] == "decoder")
    test["exit"] = not test["exit"]


def move_a_threshold(logs: Any) -> None:
    next(d for d in early(logs)["decisions"] if d["threshold"])["threshold"] += 1e-4


def forget_a_decision(logs: Any) -> None:
    del early(logs)["decisions"][-1]


def change_a_token(logs: Any) -> None:
    logs["logs"][0]["tokens"][0] ^= 1


def skip_a_fill(logs: Any) -> None:
    calls = next(log["calls"] for log in logs["logs"] if any("fill" in c["run"] for c in log["calls"]))
    del calls[next(i for i, call in enumerate(calls) if "fill" in call["run"])]


def run_a_layer_more(logs: Any) -> None:
    """As a port would that leaves one segment late: its log is consistent but for that."""
    calls = early(logs)["calls"]
    at = next(i for i, call in enumerate(calls) if call["run"] == "head")
    number = int(calls[at - 1]["run"].partition(".")[2]) + 1
    calls.insert(at, {"run": f"decoder.{number}"})


def ignore_a_score(logs: Any) -> None:
    """The port exits where it should, by scores that no segment gave."""
    call = next(c for c in early(logs)["calls"] if c.get("gap"))
    call["gap"] = [g * 0.99 for g in call["gap"]]
    call["score"] = [1 - g for g in call["gap"]]


def never_read(logs: Any) -> None:
    next(c for c in early(logs)["calls"] if c.get("gap"))["gap"] = []


def stop_early(logs: Any) -> None:
    logs["logs"][0]["calls"] = logs["logs"][0]["calls"][:-1]


def go_on(logs: Any) -> None:
    logs["logs"][0]["calls"].append({"run": "embed"})


CHANGES: tuple[tuple[Callable[[Any], None], str], ...] = (
    (flip_a_decision, "decision"),
    (move_a_threshold, "decision"),
    (forget_a_decision, "the loop makes"),
    (change_a_token, "the caption is"),
    (skip_a_fill, "where the loop asks for fill"),
    (run_a_layer_more, "where the loop asks for head"),
    (ignore_a_score, "scores that differ by up to"),
    (never_read, "lacks its gap"),
    (stop_early, "the log ends"),
    (go_on, "the log goes on with embed"),
)


@pytest.mark.parametrize(("change", "words"), CHANGES, ids=[c.__name__ for c, _ in CHANGES])
def test_one_change_is_rejected(
    run: Runner, logs: Any, tiny_bundle: Path, tmp_path: Path, change: Callable[[Any], None], words: str
) -> None:
    changed = copy.deepcopy(logs)
    change(changed)
    assert changed != logs
    path = tmp_path / "port.json"
    path.write_text(json.dumps(changed))
    assert words in run("conformance", tiny_bundle, "--check", path).error(6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ('{"plan": "x", "logs": []}', "is of plan x"),
        ('{"plan": "x", "logs": [], "more": 1}', "unknown keys: more"),
        (None, "is not there"),
    ],
)
def test_files_that_are_no_logs(run: Runner, tiny_bundle: Path, tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "port.json"
    if text is not None:
        path.write_text(text)
    assert words in run("conformance", tiny_bundle, "--check", path).error(4)


def test_own_pictures(run: Runner, tiny_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    shown = [pictures / "0.png", pictures / "2.png"]
    assert run("conformance", tiny_bundle, *shown, "--out", tmp_path / "kit").code == 0
    log = tmp_path / "kit" / "logs.json"
    assert run("conformance", tiny_bundle, *shown, "--check", log).code == 0
    assert "give the kit's IMAGES" in run("conformance", tiny_bundle, shown[0], "--check", log).error(4)
