"""An untrained model beside a made-up set of stickers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mue_edge.apps.stickers.dataset import Record
from tests.calibrate import captioned

SPLITS = {"train": 20, "val_render": 3, "test_render": 3, "test_comp": 3}


def folders(root: Path) -> Path:
    """`model` and `cache` in `root`."""
    captioned.model_folder(root / "model")
    names = list(captioned.NAMES)
    records = [
        Record(f"{split}/{i}", "", names[i % 4], (), (), f"{split}{i % 4}", "", "noto", "", split, "MIT")
        for split, count in SPLITS.items()
        for i in range(count)
    ]
    (root / "cache").mkdir()
    (root / "cache" / "index.json").write_text(json.dumps([asdict(r) for r in records]), encoding="utf-8")
    pixels = np.random.default_rng(0).integers(0, 255, (len(records), 32, 32, 4), np.uint8)
    np.save(root / "cache" / "pixels-96.npy", pixels)
    return root
