"""inspect and verify, and bundles that were tampered with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.apps.cli.run import Runner, picture


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


WHOLE = "embed+decoder.0-2+head.onnx"  # what a step at full depth runs


def flip(folder: Path, name: str = "segments/decoder.2.onnx") -> None:
    path = folder / name
    before, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def leave(folder: Path) -> None:
    data = json.loads((folder / "manifest.json").read_text())
    data["files"]["../outside.bin"] = data["files"]["constants.bin"]
    (folder / "manifest.json").write_text(json.dumps(data))
    shutil.copy(folder / "constants.bin", folder.parent / "outside.bin")


def test_inspect(run: Runner, tiny_bundle: Path) -> None:
    done = run("inspect", tiny_bundle)
    assert done.code == 0
    for word in ("decoder.2", "fill.1", "x[1,9,16]", "* full", "evidence", "loop", "prompt", "' abc'"):
        assert word in done.out, word
    data = run("inspect", tiny_bundle, "--json").json()
    assert data == json.loads((tiny_bundle / "manifest.json").read_text())


def test_inspect_says_how_pictures_are_scaled(run: Runner, tiny_bundle: Path, imagenet_bundle: Path) -> None:
    assert "48 x 48, (x - 0.5) / 0.5\n" in run("inspect", tiny_bundle).out
    scaled = "48 x 48, (x - [0.485 0.456 0.406]) / [0.229 0.224 0.225]\n"
    assert scaled in run("inspect", imagenet_bundle).out


def test_verify(run: Runner, tiny_bundle: Path) -> None:
    done = run("verify", tiny_bundle)
    assert done.code == 0 and "verified on this machine" in done.out
    record = run("verify", tiny_bundle, "--json").json()
    assert record["rung"] == "loop" and record["replay_same_tokens"] == record["logs"] == 8
    assert record["max_score_error"] <= 1e-5


def test_answers_that_differ_end_verify_with_6(run: Runner, copied: Path) -> None:
    from mue_edge.files import sha256

    path = copied / "golden" / "logs.json"
    logs = json.loads(path.read_text())
    logs[0]["log"]["scores"][0]["scores"][0] += 1e-3
    path.write_text(json.dumps(logs))
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["files"]["golden/logs.json"] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    (copied / "manifest.json").write_text(json.dumps(manifest))
    assert "score error" in run("verify", copied).error(6)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip, "was changed"),
        (lambda folder: flip(folder, "segments/weights.bin"), "was changed"),
        (lambda folder: (folder / "segments" / "head.onnx").unlink(), "is missing"),
        (leave, "leaves the bundle"),
    ],
)
def test_tampered_bundles_are_refused_before_loading(
    run: Runner, copied: Path, damage: Callable[[Path], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mue_edge import targets

    damage(copied)
    monkeypatch.setattr(targets, "open_runtime", lambda *args: pytest.fail("a runtime was opened"))
    image = picture(copied.parent / "a.png")
    for args in (("caption", copied, image), ("inspect", copied), ("verify", copied), ("bench", copied)):
        assert words in run(*args).error(4), args


def test_a_change_after_the_first_open_is_seen(run: Runner, copied: Path) -> None:
    image = picture(copied.parent / "a.png")
    assert run("caption", copied, image).code == 0  # leaves a stamp
    flip(copied, f"segments/{WHOLE}")  # same size and time: a stamp cannot tell
    assert f"{WHOLE} was changed" in run("caption", copied, image).error(4)
    assert f"{WHOLE} was changed" in run("verify", copied).error(4)
