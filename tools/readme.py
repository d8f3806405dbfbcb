"""Writes the figures of README.md and the docs from evidence/: `python tools/readme.py`.

A block stands between `<!-- evidence: NAME -->` and `<!-- /evidence -->`. A test compares every
block with what the evidence says, so that no page can show a figure that was not measured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from blocks import (
    bench,
    calibration,
    camera,
    compare,
    entailment,
    executorch,
    iphone,
    jetson,
    loop,
    lossless,
    processors,
    savings,
    stickers,
    web,
)
from blocks.records import ROOT
from mue_edge.calibrate.report.pages import fill
from tools.stickers import tables

PAGES = (
    ROOT / "README.md",
    ROOT / "apps" / "stickers" / "MODEL_CARD.md",
    ROOT / "apps" / "entailment" / "MODEL_CARD.md",
    *sorted((ROOT / "docs").glob("*.md")),
)

BLOCKS: dict[str, Callable[[], str]] = {
    "savings-exits": partial(savings.saved, "savings-exits"),
    "savings-plans": partial(savings.saved, "savings-plans"),
    "loop": loop.loop,
    "bench": bench.bench,
    "stickers": stickers.stickers,
    "lossless": lossless.lossless,
    "compare": compare.methods,
    "compare-own": compare.own,
    "compare-modalities": compare.modalities,
    "compare-signals": compare.signals,
    "entailment": entailment.accuracy,
    "entailment-depths": entailment.depths,
    "compare-entail": partial(compare.methods, "compare-entail"),
    "compare-entail-modalities": partial(compare.modalities, "compare-entail"),
    "calibrate": calibration.calibrated,
    "calibrate-entail": partial(calibration.calibrated, "calibrate-entail", "accuracy", "5 %"),
    "compare-entail-own": partial(compare.own, "compare-entail"),
    "compare-entail-signals": partial(compare.signals, "compare-entail"),
    "certificate": calibration.certificate,
    "deadline": calibration.deadline,
    "iphone": iphone.stickers,
    "iphone-ofa-base": iphone.base,
    "iphone-without-numpy": iphone.without_numpy,
    "executorch-loop": executorch.loop,
    "executorch-int8": executorch.int8,
    "executorch-base": executorch.base,
    "executorch-bench": executorch.bench,
    "executorch-java": executorch.java,
    "web": web.web,
    "camera": camera.under_load,
    "camera-ends": camera.ends,
    "executorch-vulkan": executorch.vulkan,
    "jetson": jetson.jetson,
    "int8-exact": processors.int8,
    "int8-wasm": processors.wasm,
    "arm64": processors.arm64,
    **{name: partial(tables.block, name) for name in tables.BLOCKS},
}


def rendered(page: str) -> str:
    """The page with every block as the evidence has it."""
    return fill(page, BLOCKS)


def main() -> None:
    for path in PAGES:
        path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
