"""Evidence files: what was measured, by what, on what, and whether it still holds."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from proving import ROOT
from proving.reading import changed

FOLDER = ROOT / "evidence"
PACKAGES = ("torch", "onnxruntime", "onnx", "executorch", "torchao", "coremltools", "numpy", "Pillow")


def read(name: str, folder: Path = FOLDER) -> dict[str, Any] | None:
    """A record, or None if nothing was measured. Older ones of the stickers lack `figures`."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {"figures": data, "uncommitted_changes": False} | data


def write(name: str, command: str, covers: Mapping[str, str], figures: Any, folder: Path = FOLDER, **more: Any) -> None:
    """FOLDER/NAME.json: what was measured, by what, on what. `covers` are digests (see
    `reading`); `more` adds fields, or gives those of the time when measuring began."""
    from mue_edge.files import atomic_write
    from mue_edge.versions import installed

    record = {
        "name": name, "date": date.today().isoformat(), "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--", *covers)), "command": command,
        "system": f"{platform.system()} {platform.machine()}, {platform.processor() or 'CPU'}, Python "
        + platform.python_version(),
        "versions": {package: installed(package) for package in PACKAGES},
        **more, "covers": dict(sorted(covers.items())), "figures": figures,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / f"{name}.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def git(*words: str) -> str:
    """What git says."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def source(record: dict[str, Any]) -> str:
    """Where figures come from, in one line; in a second one, that what they depend on is not what it was."""
    commit = record["commit"][:10] + " and later changes" * record["uncommitted_changes"]
    words = f"From `evidence/{record['name']}.json` ({record['date']}, commit {commit}, {record['system']}).\n"
    stale = f"\n*Measured at {record['commit'][:10]}; stale.*\n" if changed(record["covers"]) else ""
    return f"\n{words}{stale}"
