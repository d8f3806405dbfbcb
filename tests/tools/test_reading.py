"""A record covers what the processes of its proof read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proving import ROOT, bundles, reading


def measured(tmp_path: Path, code: str) -> tuple[str, ...]:
    """The entries that a proof reads whose `measure` is this code."""
    package = tmp_path / "proofs"
    package.mkdir()
    (package / "__init__.py").write_text((ROOT / "tools/proofs/__init__.py").read_text())
    (package / "tiny.py").write_text(f"def measure():\n    {code}\n    return 1\n")
    log, out = tmp_path / "log.txt", tmp_path / "figures.json"
    path = os.pathsep.join((str(tmp_path), str(ROOT / "tools")))
    command = [sys.executable, "-m", "proving.process", "tiny", str(log), str(out)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": path})
    assert out.read_text() == "1"
    return reading.entries(log)


def test_imports_and_data_of_a_process_and_its_children(tmp_path: Path) -> None:
    child = "import os; from mue_edge.targets import buffers; os._exit(0)"
    found = measured(
        tmp_path,
        "import subprocess, sys; from mue_edge.export.onnx import half; "
        "open('export/tensorrt/jetpack.toml').close(); "
        "open('CONTRIBUTING.md').close(); open('evidence/bench.json').close(); "
        f"subprocess.run([sys.executable, '-c', {child!r}], check=True)",
    )
    # Rooms are read through links; what only renders, pages and records are no part of it.
    assert {"export/onnx/half.py", "export/tensorrt/jetpack.toml", "targets/buffers.py"} <= set(found)
    for word in ("rendering", "pages", ".md", "evidence", "mue_edge/export"):
        assert not [entry for entry in found if word in entry]


def test_pictures_are_one_entry_a_folder(tmp_path: Path) -> None:
    folder = ROOT / "apps/stickers/demo"
    paths = sorted(folder.glob("*.png")) or sorted(folder.glob("*.webp"))
    log = tmp_path / "log.txt"
    log.write_text("".join(f"{path}\n" for path in paths))
    (entry,) = reading.entries(log)
    assert entry == f"apps/stickers/demo/*{paths[0].suffix}"
    assert reading.changed(reading.digests([entry])) == []


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another repository, with one proof, one picture and one other file."""
    monkeypatch.setattr(reading, "ROOT", tmp_path)
    (tmp_path / "tools" / "proofs").mkdir(parents=True)
    (tmp_path / "tools/proofs/a.py").write_text("N = 1\n\n\ndef render(r):\n    return 1\n\n\ndef measure(): ...\n")
    (tmp_path / "a.webp").write_bytes(b"1")
    (tmp_path / "a.txt").write_text("1")
    return tmp_path


def test_what_renders_is_no_part_of_what_is_measured(root: Path) -> None:
    file = root / "tools/proofs/a.py"
    covers = reading.digests(["tools/proofs/a.py"])
    file.write_text(file.read_text().replace("return 1", "x = 2\n    return x"))
    assert reading.changed(covers) == []
    file.write_text(file.read_text().replace("N = 1", "N = 2"))
    assert reading.changed(covers) == ["tools/proofs/a.py"]


def test_a_change_is_noticed(root: Path) -> None:
    covers = reading.digests(["*.webp", "a.txt"])
    (root / "b.webp").write_bytes(b"2")
    assert reading.changed(covers) == ["*.webp"]
    assert reading.digests(["a.txt"], begun=0.0) == {"a.txt": ""}
    (root / "a.txt").unlink()
    assert reading.changed(covers) == ["*.webp", "a.txt"]


def test_what_is_kept_brings_what_it_was_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "BUNDLES", tmp_path)
    makes: list[Path] = []

    def make(out: Path) -> None:
        makes.append(out)
        out.mkdir(exist_ok=True)
        reading.note(["Makefile"])

    for log in ("first", "second"):
        monkeypatch.setenv("MUE_EDGE_FILES_READ", str(tmp_path / log))
        assert bundles.kept("thing", make) == tmp_path / "thing"
        assert reading.noted() == ("Makefile",)
    assert len(makes) == 1
    (tmp_path / "thing.json").write_text('{"Makefile": "another"}')
    bundles.kept("thing", make)
    assert len(makes) == 2
