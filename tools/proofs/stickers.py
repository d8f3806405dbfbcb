"""The bundled model on all splits: the module that measures it also draws the model card's pictures."""

from __future__ import annotations

from typing import Any

from mue_edge.calibrate.report.pages import table
from proving.modules import figures_of
from proving.rendering import Record


def measure() -> dict[str, Any]:
    return figures_of("tools.stickers.evidence")


def render(record: Record) -> str:
    """The bundled model's quality by split."""
    from tools.stickers import tables

    asks = {
        "val_render": "known caption, unseen drawing (used for choices)",
        "test_render": "known caption, unseen drawing",
        "test_comp": "unseen combination of person and skin tone",
        "test_vendor": "an artist never seen",
    }
    rows = []
    for split, f in record["figures"]["splits"].items():
        if split in asks:
            shown = (tables.interval(f[key]) for key in ("exact_match", "exact_match_but_tone"))
            rows.append([split, asks[split], str(f["samples"]), *shown])
    head = ["split", "what it asks", "pictures", "exact match", "right but for the skin tone"]
    return table(head, rows) + "\nIn brackets 90 % intervals (bootstrap by emoji).\n"


def render_card(record: Record) -> str:
    """Figures by split, group and depth, with examples."""
    from tools.stickers import tables

    return tables.stickers(record["figures"])
