"""`mue-edge bench`: what it prints, and when it refuses to."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from mue_edge.apps.cli import rivals
from mue_edge.bundle.manifest import Manifest
from mue_edge.export import rivals as export_rivals
from mue_edge.export.rivals.job import RivalJob
from mue_edge.export.rivals.worker import RivalDone
from mue_edge.measuring import bench
from mue_edge.measuring.bench import TimeSample
from tests.apps.cli.run import Runner, picture

Measured = dict[str, list[TimeSample]]


def quiet(twin: float = 1.0) -> Callable[..., Measured]:
    """Instead of a clock: every system takes its layers' time, the twin `twin` times the reference's."""
    seconds = {"full depth": 1.0, "twin": twin, "exits": 0.5, "monolithic": 0.9}

    def interleave(systems: dict[str, object], reference: str, rounds: range, **options: int) -> Measured:
        each = {name: seconds.get(name, 2.0) for name in systems}
        return {name: [TimeSample(value, value)] * len(rounds) for name, value in each.items()}

    return interleave


def test_exits_are_compared_with_full_depth(
    run: Runner, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "interleave", quiet())
    out = tmp_path / "bench.json"
    done = run("bench", tiny_bundle, "--rounds", "6", "--out", out)
    assert done.code == 0, done.err
    assert "uncalibrated" in done.out and "0.500 [0.500-0.500]" in done.out
    record = json.loads(out.read_text())
    systems = record["systems"]
    assert set(systems) == {"full depth", "twin", "exits"} and record["noisy"] is None
    assert systems["full depth"]["layers"] == {"image": 3, "text": 3, "decoder": 3}
    assert systems["exits"]["layers"]["decoder"] < 3
    assert systems["exits"]["calls"] < systems["full depth"]["calls"]
    assert systems["exits"]["cpu_ratio"] == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert systems["twin"]["same_captions"] == record["pictures"] == 4


def test_a_twin_that_is_off_prints_nothing(
    run: Runner, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "interleave", quiet(twin=1.2))
    out = tmp_path / "bench.json"
    done = run("bench", tiny_bundle, "--rounds", "3", "--out", out)
    assert "A/A control" in done.error(6) and done.out == "" and not out.exists()
    forced = run("bench", tiny_bundle, "--rounds", "3", "--force", "--json").json()
    assert "A/A control" in forced["noisy"]


def test_the_clock_itself(run: Runner, tiny_bundle: Path, pictures: Path) -> None:
    done = run("bench", tiny_bundle, pictures / "0.png", "--rounds", "3", "--force", "--policy", "full", "--json")
    systems = done.json()["systems"]
    assert all(s["cpu_ms"] > 0 and s["cpu_ratio"]["median"] > 0 for s in systems.values())
    assert systems["exits"]["layers"] == systems["full depth"]["layers"]


def test_another_bundle_is_measured_too(
    run: Runner, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr(bench, "interleave", quiet())
    other = shutil.copytree(tiny_bundle, tmp_path / "other")
    done = run("bench", tiny_bundle, "--against", other, "--rounds", "3", "--json")
    systems = done.json()["systems"]
    assert systems["host fp32"]["cpu_ratio"]["median"] == 2 and systems["host fp32"]["same_captions"] == 4
    assert systems["host fp32, exits"]["layers"] == systems["exits"]["layers"]
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["model"]["sha256"] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert "not made from the model" in run("bench", tiny_bundle, "--against", other).error(2)


def test_a_target_instead_of_a_bundle(
    run: Runner, tiny_bundle: Path, tiny_model_folder: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is exported for the target, for the host, and whole; all arguments are pictures."""
    pytest.importorskip("onnx")
    import shutil

    from mue_edge.bundle.folder import open_bundle
    from mue_edge.export import build

    made: list[tuple[str, object]] = []

    def export(folder: Path, out: Path, target: str, options: dict[str, object], *rest: object) -> object:
        made.append((target, options.get("ends")))
        assert folder == tiny_model_folder
        return build.Exported(open_bundle(shutil.copytree(tiny_bundle, out)), None, None)

    monkeypatch.setattr(build, "export", export)
    monkeypatch.setattr(bench, "interleave", quiet())
    options = ("--target", "android", "--model", tiny_model_folder, "--rounds", "3", "--json")
    record = run("bench", pictures / "0.png", pictures / "1.png", *options).json()
    assert record["pictures"] == 2
    assert made == [("android", None), ("host", None), ("host", "whole")]
    assert {"monolithic", "host fp32"} <= set(record["systems"])
    assert "name a BUNDLE" in run("bench").error(2)
    assert "known targets" in run("bench", "--target", "toaster", "--model", tiny_model_folder).error(2)


def test_another_model_is_no_rival(run: Runner, tiny_bundle: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    import shutil

    other = shutil.copytree(tiny_model_folder, tmp_path / "other")
    (other / "model.safetensors").write_bytes(b"else")
    assert "is not the model" in run("bench", tiny_bundle, "--model", other).error(2)
    assert "is not the model" in run("bench", tiny_bundle, "--model", other, "--rival", "torch").error(2)
    assert "--model" in run("bench", tiny_bundle, "--rival", "torch").error(2)


class Rival:
    """A rival's process, which writes what it is given."""

    closed: ClassVar[list[str]] = []
    read: ClassVar[set[Path]] = set()

    def __init__(self, name: str, job: RivalJob) -> None:
        self.name, self.settings, self.job = name, f"as {name} is", job

    def caption(self, picture: Path) -> RivalDone:
        self.read.add(picture)
        return RivalDone((7, 2), TimeSample(4, 5))

    def stem(self, picture: Path) -> RivalDone:
        return RivalDone((), TimeSample(3, 3))

    def close(self) -> None:
        self.closed.append(self.name)


def test_rivals_stand_beside_full_depth(
    run: Runner, tiny_bundle: Path, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interleave(
        systems: dict[str, Callable[[int], object]], reference: str, rounds: range, **options: int
    ) -> Measured:
        """Full depth takes 2 seconds, 0.5 of them the stem; the twin and exits differ by the usual."""
        seconds = {"full depth": 2.0, "twin": 2.0, "exits": 1.0, "stem": 0.5}
        times = {name: bench.sample(partial(system, 0)) for name, system in systems.items()}
        times |= {name: TimeSample(value, value) for name, value in seconds.items()}
        return {name: [time] * len(rounds) for name, time in times.items()}

    monkeypatch.setattr(bench, "interleave", interleave)
    monkeypatch.setattr(rivals, "Worker", Rival)
    monkeypatch.setattr(export_rivals, "find_spec", lambda name: name)
    made: list[tuple[Path, tuple[str, ...], int]] = []

    def make(model: Path, manifest: Manifest, graphs: Path, names: tuple[str, ...], threads: int) -> None:
        made.append((model, names, threads))

    monkeypatch.setattr(rivals, "make", make)
    Rival.closed.clear()
    shown = picture(tmp_path / "a.png")
    two = ("--rival", "torch", "--rival", "openvino", "--rival", "torch")
    options = ("--model", tiny_model_folder, *two, "--rounds", "3", "--threads", "2")
    record = run("bench", tiny_bundle, shown, *options, "--json").json()
    assert made == [(tiny_model_folder, ("torch", "openvino"), 2)] and record["threads"] == 2
    assert Rival.closed == ["openvino", "torch"] * 3 and Rival.read == {shown}
    assert set(record["systems"]) == {"full depth", "twin", "exits"}
    rival = record["rivals"]["torch"]
    assert (rival["cpu_ms"], rival["stem_cpu_ms"], rival["settings"]) == (4000, 3000, "as torch is")
    assert rival["same_captions"] == 0 and rival["stem_cpu_ratio"]["median"] == 0.5 / 3
    medians = {key: ratio["median"] for key, ratio in rival["ratios"]["full depth"].items()}
    assert medians == {"cpu": 0.5, "cpu_without_stem": 1.5, "wall": 0.4}
    assert rival["ratios"]["exits"]["cpu_without_stem"]["median"] == 0.5
    golden = run("bench", tiny_bundle, *options).out
    assert "full depth ÷ torch  " in golden and "0 of 4" in golden and "as openvino is" in golden
    assert len(Rival.read) == 5 and not any(path.exists() for path in Rival.read - {shown})


def test_a_rival_runs(run: Runner, tiny_bundle: Path, tiny_model_folder: Path, pictures: Path) -> None:
    pytest.importorskip("onnx")
    shown = (pictures / "0.png", pictures / "1.png")
    options = ("--model", tiny_model_folder, "--rival", "onnxruntime", "--rounds", "3", "--force", "--json")
    record = run("bench", tiny_bundle, *shown, *options).json()
    rival = record["rivals"]["onnxruntime"]
    assert rival["same_captions"] == 2 and rival["cpu_ms"] > rival["stem_cpu_ms"] > 0
    assert multiprocessing.active_children() == []


def test_a_rival_that_is_not_installed(
    run: Runner, tiny_bundle: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_rivals, "find_spec", lambda name: None)
    options = ("--model", tiny_model_folder, "--rival", "openvino")
    assert "mue-edge[rivals]" in run("bench", tiny_bundle, *options).error(5)


def test_a_bad_picture_ends_the_measurement(run: Runner, tiny_bundle: Path, pictures: Path) -> None:
    assert "1b-damaged.png" in run("bench", tiny_bundle, pictures).error(4)
