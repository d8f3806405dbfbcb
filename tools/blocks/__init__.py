"""What pages say of the evidence: a file a topic, a function a block of `tools/readme.py`."""

from __future__ import annotations

import sys
from pathlib import Path

# `python tools/FILE.py` finds what stands beside it, and not `tools.stickers`.
sys.path.append(str(Path(__file__).resolve().parents[2]))
