"""The pictures that come with the package, to tune and to certify the bundled model's policies on.

`pictures/<split>/` holds a split as the model sees it: `<set>/<emoji>.webp` (96 × 96, on white) and
`captions.jsonl`, one object a picture. It is a data set like a user's own:
`mue-edge evaluate MODEL --data …/pictures/cal_render` reads it too. No torch, no recipe is needed.

| split | pictures | for |
|---|---|---|
| val_render | 415 | choosing: checkpoints, thresholds |
| cal_render | 1398 | calibration: thresholds by 30 % of its emoji, certificates by the others |

`pictures/train_captions.jsonl` has the captions that the model was trained on, for CIDEr-D's document
frequencies. `python -m tools.stickers.shipped` writes all this in a checkout, from what the recipe made.
What is certified is certified on the shipped pictures, so what their compression does to them is part of it.
"""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "pictures"
SPLITS = ("val_render", "cal_render")
TRAIN = "train_captions.jsonl"


def train_captions(folder: Path = FOLDER) -> list[str]:
    """The caption of every training picture: what document frequencies are taken from."""
    rows = [json.loads(line) for line in (folder / TRAIN).read_text(encoding="utf-8").splitlines()]
    return [row["caption"] for row in rows for _ in range(row["pictures"])]
