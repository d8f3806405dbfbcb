"""What proofs measure and render with. `tools/proofs/` holds the proofs themselves, a file each."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
