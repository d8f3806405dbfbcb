"""targets and doctor, which must work where nothing else is installed."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from mue_edge import versions
from tests.apps.cli.run import Runner


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


def found(monkeypatch: pytest.MonkeyPatch, **changed: str | None) -> None:
    """Other versions than the installed ones; None is a package that is not there."""
    there = versions.installed
    monkeypatch.setattr(versions, "installed", lambda name: changed[name] if name in changed else there(name))


def line_of(out: str, package: str) -> str:
    return next(line for line in out.splitlines() if line.startswith(f"{package} "))


def test_an_extra_that_is_not_installed_asks_nothing(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, numpy="1.26.4", torch=None)
    done = run("doctor")
    assert line_of(done.out, "numpy").split() == ["numpy", "1.26.4"]
    packages = {p["name"]: p for p in run("doctor", "--json").json()["packages"]}
    assert packages["numpy"]["state"] == "ok" and packages["numpy"]["unmet"] == []


def test_an_extra_that_is_installed_is_named_with_its_cure(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, numpy="1.26.4", torch="2.13.0", safetensors="0.4.5")
    done = run("doctor")
    assert done.code == 0  # the core is content
    line = line_of(done.out, "numpy")
    assert "1.26.4, but torch wants >=2,<2.4; cure: pip install 'mue-edge[torch]'" in line
    assert "mue-edge wants" not in line


def test_names_and_versions_stand_in_columns(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    there = versions.installed
    monkeypatch.setattr(versions, "installed", lambda name: there(name) or "0.1.0")
    _, packages = run("doctor").out.rstrip().split("\n\n")
    names = {p["name"] for p in run("doctor", "--json").json()["packages"]}
    lines = packages.splitlines()
    assert {line.split()[0] for line in lines} == names and max(map(len, names)) > 14
    starts = {len(line) - len(line.split(maxsplit=1)[1]) for line in lines}
    assert len(starts) == 1


def test_doctor_lists_what_this_system_can_use(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    names = []
    for system in ("linux", "darwin"):
        monkeypatch.setattr(sys, "platform", system)
        names.append({p["name"] for p in run("doctor", "--json").json()["packages"]})
    assert "toga-cocoa" not in names[0] and "toga-cocoa" in names[1]
    assert "toga-qt" not in names[1] and ("toga-qt" in names[0]) == (sys.version_info >= (3, 11))
