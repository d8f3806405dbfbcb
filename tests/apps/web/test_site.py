"""What a site holds, and what stops its making."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mue_edge.apps.web import npm, site
from mue_edge.errors import EnvironmentLacksError, InputFileError
from tests.apps.cli.run import Runner
from tests.test_imports import HEAVY, run_blocked

PAGE = site.PAGE
TINY = npm.NpmPackage("left-pad", "1.3.0", "0" * 64, "WTFPL", "", {})


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


def test_the_page_needs_nothing_but_python() -> None:
    """MODULES is what the page's Python imports, without click, numpy and Pillow."""
    loaded = "import sys; found = {m for m in sys.modules if m.partition('.')[0] == 'mue_edge'}\n"
    run_blocked(
        (*HEAVY, "numpy", "click", "PIL"),
        ["mue_edge.apps.web.session"],
        f"{loaded}assert found == set({site.MODULES!r}), found ^ set({site.MODULES!r})\n",
    )


def test_the_zip_imports_by_itself(tmp_path: Path) -> None:
    data = site.python_zip()
    assert data == site.python_zip()
    (tmp_path / "mue_edge.zip").write_bytes(data)
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'mue_edge.zip')!r}); "
    code += "import mue_edge.apps.web.session as s; print(s.__file__)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.startswith(str(tmp_path))


def test_the_page_asks_nobody_else() -> None:
    """No address but those of the page's own files, and one policy in the page and in its worker."""
    for path in PAGE.iterdir():
        assert not re.search(r"https?://", path.read_text(encoding="utf-8")), path.name
    policies = set()
    for name in ("index.html", "sw.js"):
        text = re.sub(r'" \+\s+"', "", (PAGE / name).read_text(encoding="utf-8"))
        policies |= set(re.findall(r"default-src 'none';[^\"]*", text))
    assert len(policies) == 1 and "connect-src 'self'" in next(iter(policies))


def test_every_file_is_named(tiny_site: Path) -> None:
    index = json.loads((tiny_site / site.MARKER).read_text())
    files = {p.relative_to(tiny_site).as_posix(): p for p in tiny_site.rglob("*") if p.is_file()}
    assert set(index["files"]) == set(files) - {site.MARKER}
    for name, entry in index["files"].items():
        data = files[name].read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"]), name
    assert index["packages"] == {"pyodide": "314.0.7", "onnxruntime-web": "1.30.0"}
    kept = (tiny_site / "sw.js").read_text()
    assert all(f'"{name}"' in kept for name in files if not name.startswith("bundle/golden/") and name != "sw.js")


def test_a_site_is_named_after_what_it_does(tiny_site: Path, entail_site: Path, captions_site: Path) -> None:
    """And says whether a caption may be given beside a statement."""
    for folder, task, reads, title in (
        (tiny_site, "caption", "statements", "Captions"),
        (entail_site, "entail", "statements", "Statements"),
        (captions_site, "entail", "captions", "Statements"),
    ):
        document = (folder / "index.html").read_text()
        assert f'data-task="{task}" data-reads="{reads}"' in document and "{{" not in document
        name = json.loads((folder / "app.webmanifest").read_text())["name"]
        assert name.startswith(f"{title}: ") and f"<title>{name}</title>" in document


def test_versions_of_the_runtime_agree() -> None:
    from mue_edge import targets

    assert targets.target("browser").versions == f"=={npm.ONNXRUNTIME.version}"


def test_without_npm(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("export", "stickers", "--target", "browser", "--out", tmp_path / "site")
    message = done.error(5)
    assert "npm is not installed" in message and "npm pack pyodide@314.0.7" in message
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("how", ["fails", "hangs", "writes nothing"])
def test_without_a_registry(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pack(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if how == "hangs":
            raise subprocess.TimeoutExpired(command, 1)
        return subprocess.CompletedProcess(command, int(how == "fails"), "", "npm error ENOTFOUND\nmore")

    monkeypatch.setattr(subprocess, "run", pack)
    with pytest.raises(EnvironmentLacksError, match=r"left-pad@1.3.0.*left-pad-1.3.0.tgz") as problem:
        npm.tarball(TINY, tmp_path)
    assert ("ENOTFOUND" in str(problem.value)) == (how == "fails")
    assert list(tmp_path.iterdir()) == []


def test_another_tarball_is_refused(tmp_path: Path) -> None:
    (tmp_path / "left-pad-1.3.0.tgz").write_bytes(b"something else")
    with pytest.raises(InputFileError, match=r"is not left-pad 1\.3\.0"):
        npm.tarball(TINY, tmp_path)
    right = hashlib.sha256(b"something else").hexdigest()
    assert npm.tarball(replace(TINY, sha256=right), tmp_path).name == "left-pad-1.3.0.tgz"
