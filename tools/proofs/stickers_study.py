"""The arms of the training study that are finished, on val_render."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from proving import ROOT
from proving.modules import HEADER
from proving.rendering import Record

BY_NAME = "measures what `python -m tools.stickers.study` has trained"


def measure() -> dict[str, Any]:
    words = ["tools.stickers.study", "--collect", "--out", str(ROOT / "out" / "study")]
    with tempfile.TemporaryDirectory() as folder:  # the module writes under the folder that it runs in
        subprocess.run([sys.executable, "-m", *words], cwd=folder, check=True)
        content: dict[str, Any] = json.loads(Path(folder, "evidence/stickers-study.json").read_text("utf-8"))
        curves = Path(folder, "docs/stickers-learning.svg").read_bytes()
    (ROOT / "docs" / "stickers-learning.svg").write_bytes(curves)
    return {key: value for key, value in content.items() if key not in HEADER}


def render(record: Record) -> str:
    from tools.stickers import tables

    return tables.study(record["figures"])
