"""targets and doctor, which must work where nothing else is installed."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from mue_edge import versions
from tests.commands.run import Runner


def test_targets(run: Runner) -> None:
    done = run("targets")
    assert done.code == 0
    head, *rows = done.out.splitlines()
    assert head.split() == ["target", "runtime", "precisions", "verified", "on"]
    runtimes = dict(row.split()[:2] for row in rows[: rows.index("")])
    assert runtimes["host"] == "onnxruntime>=1.20,<2" and "android" in runtimes
    assert all(target["rung"] for target in run("targets", "--json").json())


def test_doctor_knows_what_is_here(run: Runner) -> None:
    done = run("doctor", "--json")
    record = done.json()
    assert done.code == 0 and record["broken"] == [] and record["cache_writable"]
    packages = {p["name"]: p for p in record["packages"]}
    assert packages["click"]["found"] == metadata.version("click")
    assert {"torch", "onnxruntime", "executorch"} <= set(packages)
    assert "numpy" in run("doctor").out


def test_doctor_names_the_extra_of_what_is_missing(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    there = versions.installed
    monkeypatch.setattr(versions, "installed", lambda name: None if name == "onnxruntime" else there(name))
    done = run("doctor")
    assert done.code == 0  # an extra that is not installed is no fault
    line = next(line for line in done.out.splitlines() if line.startswith("onnxruntime"))
    assert "missing" in line and "mue-edge[host]" in line


def test_doctor_sees_a_version_out_of_range(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    there = versions.installed
    monkeypatch.setattr(versions, "installed", lambda name: "1.2" if name == "onnxruntime" else there(name))
    assert "1.2, but host wants >=1.20,<2" in run("doctor").out


def test_doctor_fails_without_the_core(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    there = versions.installed
    monkeypatch.setattr(versions, "installed", lambda name: None if name == "Pillow" else there(name))
    done = run("doctor")
    assert done.code == 5 and "broken: Pillow" in done.err


def test_doctor_with_a_cache_that_cannot_be_written(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    done = run("doctor")
    assert done.code == 0 and "not writable" in done.out
