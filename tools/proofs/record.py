"""Evidence files: what was measured, by what, on what, and whether it still holds."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "evidence"
# What a figure may depend on: everything but the evidence itself and the pages written from it.
CODE = (".", ":!evidence", ":!*.md")


def covers(paths: tuple[str, ...]) -> dict[str, str]:
    """Hash of each covered file."""
    return {p: hashlib.sha256((ROOT / p).read_bytes()).hexdigest()[:16] for p in paths}


def is_fresh(path: Path) -> bool:
    """Whether the evidence exists and nothing that it covers has changed."""
    if not path.is_file():
        return False
    wanted: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["covers"]
    return all((ROOT / p).is_file() for p in wanted) and covers(tuple(wanted)) == wanted


def write(name: str, command: str, covered: tuple[str, ...], figures: Any) -> None:
    """evidence/NAME.json: what was measured, by what, on what."""
    from mue_edge.files import atomic_write
    from mue_edge.versions import installed

    git = lambda *words: subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    packages = ("torch", "onnxruntime", "onnx", "executorch", "torchao", "coremltools", "numpy", "Pillow")
    record = {
        "name": name,
        "date": date.today().isoformat(),
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no", "--", *CODE)),
        "command": command,
        "system": f"{platform.system()} {platform.machine()}, {platform.processor() or 'CPU'}, Python "
        + platform.python_version(),
        "versions": {p: installed(p) for p in packages},
        "covers": covers(covered),
        "figures": figures,
    }
    FOLDER.mkdir(exist_ok=True)
    atomic_write(FOLDER / f"{name}.json", json.dumps(record, indent=1) + "\n")
