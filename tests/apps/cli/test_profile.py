"""`mue-edge profile`: what it writes and prints, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mue_edge import machine
from mue_edge.bundle.folder import open_bundle
from mue_edge.measuring import measure, profile
from mue_edge.measuring.profile import Profile
from mue_edge.sessions.session import Session
from tests.apps.cli.run import Runner


def steady(error: float = 0.01) -> object:
    """Instead of a clock: every segment takes a millisecond, the loop none."""

    def measured(
        session: Session, inputs: measure.NetworkInputs, captions: int, *, clock: str, step: object
    ) -> tuple[Profile, tuple[str, ...]]:
        m = session.bundle.manifest
        made = profile.blank(
            m,
            kind=profile.MEASURED,
            device=machine.device(),
            runtime=m.runtime.name,
            threads=1,
            clock=clock,
            segments={name: profile.SegmentTime(1e-3, 2e-3, 1e-4, captions) for name in m.segments},
            caption_seconds=2e-3,
            noise=profile.Noise(1.0, 1.2),
            error=error,
            checks={"full depth": profile.ProfileCheck(100, 0.04, 0.05)},
        )
        return made, ("stem", "image.0", "image.1", "image.2", "embed", "cross_kv.0", "decoder.0", "head")

    return measured


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The bundle where a file may be written beside it."""
    import shutil

    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def test_the_clock_itself(run: Runner, copy: Path) -> None:
    done = run("profile", copy, "--threads", "1", "--captions", "200")
    assert done.code == 0, done.err
    path = copy.with_name("copy.profile.json")
    assert f"wrote {path}" in done.out
    found = profile.read(path)
    found.check_fits(open_bundle(copy), threads=1)
    assert found.kind == "measured" and found.threads == 1 and found.clock == "wall"
    assert found.preprocess_seconds is None and found.versions["onnxruntime"] and found.device
    assert found.noise is not None and found.predict(["stem"]) > 0
    assert {check.captions > 0 for check in found.checks.values()} == {True} and len(found.checks) == 3
    assert not list(copy.glob("*profile*"))  # a bundle's folder holds what its manifest lists


def test_pictures_and_json(run: Runner, copy: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "1b-damaged.png").unlink()
    out = tmp_path / "p.json"
    done = run("profile", copy, pictures, "--clock", "cpu", "--captions", "200", "--out", out, "--json")
    assert done.code == 0, done.err
    assert done.json() == json.loads(out.read_text())
    found = profile.read(out)
    assert found.preprocess_seconds is not None and found.preprocess_seconds > 0
    assert found.clock == "cpu" and found.threads == 1


def test_the_table(run: Runner, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "measure", steady())
    done = run("profile", copy)
    assert done.code == 0, done.err
    rows = {line[:9].strip(): line.split()[-4:] for line in done.out.splitlines() if "%" in line}
    assert rows["image"] == ["3", "1000", "2000", "30.0%"]
    assert rows["fill"] == ["0", "1000", "2000", "0.0%"]
    assert rows["a caption"] == ["caption", "1", "2000.0", "20.0%"]
    assert "predicted    40.00 ms, live    50.00 ms (100 captions, off by -20.0%)" in done.out
    assert "RESTLESS" not in done.out


def test_a_restless_machine_is_said_to_be_one(run: Runner, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "measure", steady(error=0.5))
    assert "--clock cpu" in run("profile", copy).out
    assert "RESTLESS" in run("profile", copy, "--clock", "cpu").out


def test_mistakes_come_before_measuring(run: Runner, copy: Path, pictures: Path, tmp_path: Path) -> None:
    assert "no folder" in run("profile", copy, "--out", tmp_path / "no" / "p.json").error(2)
    assert "no latency" in run("profile", copy, "--clock", "cpu", "--threads", "2").error(2)
    assert "1b-damaged.png" in run("profile", copy, pictures).error(4)
    assert run("profile", copy, "--captions", "199").code == 2
    assert not list(tmp_path.glob("*.json"))


def test_a_measurement_that_fails_leaves_the_last_profile(
    run: Runner, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "measure", steady())
    run("profile", copy)
    path = copy.with_name("copy.profile.json")
    before = path.read_bytes()
    monkeypatch.undo()
    m = open_bundle(copy).manifest
    ghost = replace(m, segments=dict(m.segments) | {"ghost": m.segments["head"]})
    (copy / "manifest.json").write_text(json.dumps(_json(ghost)))
    assert "reached ghost" in run("profile", copy).error(6)
    assert path.read_bytes() == before


def _json(manifest: object) -> object:
    from mue_edge import schema

    return schema.encode(manifest)
