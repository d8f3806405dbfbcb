"""`mue-edge export` and `mue-edge demo` around the export room, which has tests of its own."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mue_edge import targets
from mue_edge.errors import UsageError
from tests.apps.cli.run import Runner, picture

pytest.importorskip("torch")
pytest.importorskip("onnx")

Calls = list[tuple[Any, ...]]


@pytest.fixture
def exported(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Instead of tracing for seconds, the export room hands out the tiny bundle; its calls are kept."""
    from mue_edge.bundle.folder import open_bundle
    from mue_edge.export import build
    from mue_edge.measuring.bench import SegmentCosts
    from mue_edge.targets.verify import verify

    calls: Calls = []
    costs = SegmentCosts()
    with contextlib.closing(targets.open_runtime(open_bundle(tiny_bundle), 1)) as runtime:
        verified = verify(open_bundle(tiny_bundle), runtime, costs.begin)

    def export(folder: Path, out: Path, target: str, options: Any, *rest: Any) -> build.Exported:
        calls.append((folder, out, target, options, *rest))
        return build.Exported(open_bundle(tiny_bundle), 1e-6, verified, costs=costs.medians())

    monkeypatch.setattr(build, "export", export)
    return calls


def test_the_report_adds_up(run: Runner, tiny_model_folder: Path, tiny_bundle: Path, exported: Calls) -> None:
    done = run("export", tiny_model_folder, "--json")
    assert done.code == 0, done.err
    report = done.json()
    files = [p for p in tiny_bundle.rglob("*") if p.is_file() and p.name != "manifest.json"]
    assert sum(report["bytes"].values()) == sum(p.stat().st_size for p in files)
    assert report["bytes"]["embed + head"] == 40 * 16 * 4  # the tied table, once
    full = report["full_depth"]
    assert full["calls"] == sum(s["calls"] for s in full["segments"].values())
    assert full["segments"]["embed+decoder+head"]["calls"] == full["steps"]
    assert all(s["seconds"] > 0 for s in full["segments"].values())
    assert report["evidence"]["rung"] == "loop"


def test_options_become_a_plan(
    run: Runner, tiny_model_folder: Path, tmp_path: Path, exported: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = tmp_path / "plan.json"
    plan.write_text('{"beam": 2, "max_length": 5, "ends": {"decoder": [1, 3]}}')
    done = run(
        "export", tiny_model_folder, "--plan", plan, "--beam", "4", "--image-size", "32x64", "--precision", "int8"
    )
    assert done.code == 0, done.err
    assert "mue-edge caption tiny-host PICTURE" in done.out and "level loop" in done.out
    run("export", tiny_model_folder, "--plan", "per-layer", "--out", "there")
    assert exported[0][1:4] == (
        Path("tiny-host"),
        "host",
        {"beam": 4, "max_length": 5, "ends": {"decoder": [1, 3]}, "height": 32, "width": 64, "precision": "int8"},
    )
    assert exported[1][1:4] == (Path("there"), "host", {"ends": "per-layer"})
    for head in ("screened", "full"):
        run("export", tiny_model_folder, "--head", head)
        assert exported[-1][3] == {"screened": head == "screened"}


def test_what_cannot_run_here_is_not_timed(
    run: Runner, tiny_model_folder: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mue_edge.bundle.folder import open_bundle
    from mue_edge.export import build

    notes = {"image.0": {"delegates": 1, "host": {}}, "head": {"delegates": 2, "host": {"aten_topk_default": 1}}}
    made = build.Exported(open_bundle(tiny_bundle), None, None, notes)
    monkeypatch.setattr(build, "export", lambda *args: made)
    done = run("export", tiny_model_folder, "--target", "android", "--backend", "vulkan", "--out", "phone")
    assert done.code == 0, done.err
    assert "took whole: 1 of 2" in done.out and "head              2 parts" in done.out
    assert "1 aten_topk_default" in done.out and "on the device: mue-edge verify phone" in done.out
    assert "time of a caption" not in done.out
    report = run("export", tiny_model_folder, "--target", "android", "--json").json()
    assert report["segments"] == notes and "full_depth" not in report


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["nowhere"], 2, "bundled model (stickers, "),
        (["--target", "toaster"], 2, "known targets: android, browser, embedded-linux"),
        (["--image-size", "3x"], 2, "384x512"),
    ],
)
def test_mistakes(run: Runner, exported: Calls, args: list[str], code: int, words: str) -> None:
    assert words in run("export", *args).error(code)
    assert exported == []


def test_a_plan_that_is_not_there(run: Runner, tiny_model_folder: Path, exported: Calls) -> None:
    assert "per-layer" in run("export", tiny_model_folder, "--plan", "per-leyer").error(4)


def test_a_folder_that_is_no_model(run: Runner, exported: Calls, tmp_path: Path) -> None:
    assert "mue-edge import" in run("export", tmp_path).error(4)


def test_named_plans(tiny_model_folder: Path) -> None:
    from mue_edge import models, targets
    from mue_edge.export.plan import make

    model, host = models.load(tiny_model_folder), targets.target("host")
    every = make(model, host, (48, 48), {"ends": "per-layer"}).ends
    assert every == {"image": (1, 2, 3), "text": (1, 2, 3), "decoder": (1, 2, 3)}
    assert make(model, host, (48, 48), {"ends": "whole"}).ends == dict.fromkeys(every, (3,))
    with pytest.raises(UsageError, match="per-layer, whole"):
        make(model, host, (48, 48), {"ends": "half"})


def test_monolithic_graphs_keep_the_plan(
    run: Runner, tiny_bundle: Path, tiny_model_folder: Path, exported: Calls
) -> None:
    args = ("bench", tiny_bundle, "--model", tiny_model_folder, "--rounds", "3", "--force", "--json")
    systems = run(*args).json()["systems"]
    assert systems["monolithic"]["same_captions"] == 4
    options = exported[0][3]
    assert options["ends"] == "whole" and options["max_length"] == 16 and options["height"] == 48
    assert options["screened"] is False  # as the bundle, whatever new exports of so many words get


@pytest.fixture
def stickers(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], list[tuple[Path, str]]]:
    """The tiny model in the bundled one's place."""
    from mue_edge.apps import stickers

    shown = [(picture(tmp_path / f"cat-{i}.png", i), f"cat {i}") for i in range(4)]
    monkeypatch.setattr(stickers, "model_folder", lambda: tiny_model_folder)
    monkeypatch.setattr(stickers, "demo_pictures", lambda: shown)
    return stickers.demo_pictures


def test_demo_shows_both_ways(
    run: Runner, tiny_bundle: Path, tmp_path: Path, exported: Calls, stickers: object
) -> None:
    place = shutil.copytree(tiny_bundle, tmp_path / "demo")
    done = run("demo", "--out", place, "--limit", "3")
    assert done.code == 0, done.err
    assert exported == []  # the bundle was made from this model
    rows = done.out.splitlines()
    assert rows[0].startswith("picture") and [r.split()[0] for r in rows[1:4]] == ["cat-0", "cat-1", "cat-2"]
    assert "of 3 captions are the same" in done.out and "uncalibrated" in done.out


def test_demo_leaves_other_bundles_alone(
    run: Runner, tiny_bundle: Path, tmp_path: Path, exported: Calls, monkeypatch: pytest.MonkeyPatch, stickers: object
) -> None:
    from mue_edge.apps import stickers as shipped

    other = shutil.copytree(shipped.model_folder(), tmp_path / "other")
    (other / "model.safetensors").write_bytes(b"another model")
    monkeypatch.setattr(shipped, "model_folder", lambda: other)
    place = shutil.copytree(tiny_bundle, tmp_path / "demo")
    assert "is a bundle of tiny" in run("demo", "--out", place).error(2)
    assert run("demo", "--out", place, "--keep", "--limit", "1").code == 0
    assert exported == []


def test_a_plan_that_is_missing_is_named_before_anything_heavy_is_loaded(
    run: Runner, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mue_edge.export

    monkeypatch.setattr(mue_edge.export, "room", lambda: pytest.fail("loaded"))
    said = run("export", tiny_model_folder, "--plan", "nothere.json").error(4)
    assert "--plan nothere.json does not exist" in said


def test_pictures_that_change_nothing_are_refused(run: Runner, tiny_model_folder: Path, pictures: Path) -> None:
    said = run("export", tiny_model_folder, "--pictures", pictures).error(2)
    assert "host scans no ranges" in said
