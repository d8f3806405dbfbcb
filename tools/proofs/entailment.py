"""Accuracy of the bundled model for statements on held-out pairs, against what can be guessed from the
statement alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mue_edge.calibrate.report.pages import table
from proving.rendering import Record, holds

DATA = ("apps/entailment/model/model.safetensors",)
LEAST = 0.1  # by which it shall be better than guesses from the statement


def measure() -> dict[str, Any]:
    from mue_edge.apps.entailment import model_folder
    from mue_edge.apps.stickers.dataset import default_cache
    from tools.entailment.evaluation import measured

    return measured(model_folder(), default_cache())


def render(record: Record) -> str:
    """Against guesses from the statement alone."""
    rows = []
    for split, f in record["figures"].items():
        labels = ", ".join(f"{label} {value:.3f}" for label, value in f["by_label"].items())
        shown = (_render_interval(f[name]) for name in ("accuracy", "hypothesis_only", "difference"))
        rows.append(
            [
                split,
                f"{f['pairs']} ({f['clusters']} emoji)",
                *shown,
                holds(f["difference"]["mean"] >= LEAST),
                labels,
                f"{f['far']['no']:.3f} of {f['far']['pairs']}",
            ]
        )
    head = ["split", "pairs", "accuracy", "from the statement alone", "difference", "≥ 0.1", "by answer"]
    head.append("denies another thing")
    return table(head, rows)


def render_depths(record: Record) -> str:
    """Accuracy on cal_render by layers run."""
    cells = record["figures"]["cal_render"]["by_depth"]
    keys = [tuple(map(int, key.split())) for key in cells]
    decoder = sorted({key[2] for key in keys})
    rows = []
    for image, text in dict.fromkeys((image, text) for image, text, _ in keys):
        rows.append([str(image), str(text), *(f"{cells[f'{image} {text} {d}']:.3f}" for d in decoder)])
    head = ["image layers", "text layers", *(f"decoder {d}" for d in decoder)]
    return table(head, rows)


def _render_interval(f: Mapping[str, float]) -> str:
    return f"{f['mean']:.3f} [{f['low']:.3f}, {f['high']:.3f}]"
