"""The bundled model."""

from __future__ import annotations

from blocks.records import NOT_MEASURED, read
from mue_edge.calibrate.report.pages import table
from tools.stickers import tables


def stickers() -> str:
    """The bundled model's quality by split."""
    record = read("stickers")
    if record is None:
        return NOT_MEASURED
    asks = {
        "val_render": "known caption, unseen drawing (used for choices)",
        "test_render": "known caption, unseen drawing",
        "test_comp": "unseen combination of person and skin tone",
        "test_vendor": "an artist never seen",
    }
    rows = []
    for split, f in record["splits"].items():
        if split in asks:
            shown = (tables.interval(f[key]) for key in ("exact_match", "exact_match_but_tone"))
            rows.append([split, asks[split], str(f["samples"]), *shown])
    head = ["split", "what it asks", "pictures", "exact match", "right but for the skin tone"]
    words = "\nFrom `evidence/stickers.json`; in brackets 90 % intervals (bootstrap by emoji).\n"
    through = read("policies")
    if through is not None:
        each = ", ".join(f"{name} {f['exact_match']:.3f}" for name, f in through["figures"].items())
        words += f"Exact match on test_render through the exported bundle, by policy: {each}"
        words += " (`evidence/policies.json`).\n"
    return table(head, rows) + words
