"""The pairs that come with the package, to tune and to certify the bundled model's policies on.

`pairs/<split>.jsonl` has a statement a line: picture (of the stickers' shipped ones), hypothesis, label and
cluster, classes balanced. `python -m tools.entailment.shipped` writes them in a checkout.
"""

from __future__ import annotations

from pathlib import Path

from mue_edge.apps.stickers.shipped import FOLDER as PICTURES

FOLDER = Path(__file__).resolve().parent / "pairs"
SPLITS = ("val_render", "cal_render")


def table(split: str) -> Path:
    """A shipped split's table."""
    return FOLDER / f"{split}.jsonl"


def pictures(split: str) -> Path:
    """The folder that its pictures are in."""
    return PICTURES / split
