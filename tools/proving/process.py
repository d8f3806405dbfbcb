"""The process that measures one proof: `python -m proving.process NAME LOG OUT`.

OUT gets the figures, LOG what was read for them (see `reading`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from proofs import load
from proving import reading, rendering  # noqa: F401  what only renders is no part of what is measured

if __name__ == "__main__":
    name, log, out = sys.argv[1:]
    reading.begin(Path(log))
    Path(out).write_text(json.dumps(load(name).measure()), encoding="utf-8")
