"""What a module measures that writes a file itself."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from proving import ROOT

HEADER = ("name", "date", "command", "commit", "covers", "system", "versions")


def figures_of(module: str, *words: str) -> dict[str, Any]:
    """What `python -m MODULE WORDS --out FILE` writes, without its header: the proof's record has one."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        subprocess.run([sys.executable, "-m", module, *words, "--out", str(out)], cwd=ROOT, check=True)
        content: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return {key: value for key, value in content.items() if key not in HEADER}
