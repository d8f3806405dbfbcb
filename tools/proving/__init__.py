"""What proofs measure and render with. `tools/proofs/` holds the proofs themselves, a file each."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # a script of tools/ finds tools.stickers and tools.entailment
