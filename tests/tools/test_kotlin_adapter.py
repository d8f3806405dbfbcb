"""The script for ExecuTorch's Kotlin sources: what it lacks is said before anything is fetched."""

from __future__ import annotations

from pathlib import Path

import kotlin_adapter
import pytest
from click.testing import CliRunner


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*given: str) -> str:
        done = CliRunner().invoke(kotlin_adapter.main, given)
        assert done.exit_code and isinstance(done.exception, SystemExit), done.exception
        return done.output

    assert f"--branch v{kotlin_adapter.PINNED}" in said(str(tmp_path))
    library = tmp_path / "org" / "pytorch" / "executorch"
    library.mkdir(parents=True)
    (library / "Module.kt").touch()
    monkeypatch.setenv("PATH", "")
    words = said(str(tmp_path))
    for lacking in ("the program java", "the program npm", str(library / "Tensor.kt")):
        assert lacking in words, words
    assert kotlin_adapter.JAR in said(str(tmp_path), "--compiler", str(tmp_path))


def test_the_pinned_version_is_the_documented_one() -> None:
    text = (kotlin_adapter.ROOT / "docs" / "android.md").read_text(encoding="utf-8")
    assert f"org.pytorch:executorch-android:{kotlin_adapter.PINNED}" in text
