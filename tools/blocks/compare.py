"""Exit methods side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blocks.records import NOT_MEASURED, read, source
from mue_edge.calibrate.report import comparison_page as page


def methods(name: str = "compare") -> str:
    """Every method for every aim."""
    record = read(name)
    if record is None:
        return NOT_MEASURED
    f = record["figures"]
    tune, held = f["tune"], f["held"]
    words = (
        f"Chosen on {tune['pictures']} pictures of {tune['source']}, judged on {held['pictures']} of "
        f"{held['source']} ({held['clusters']} clusters); means over {f['seeds']} seeds, 90 % intervals. "
        f"Time: {f['clock']} time of {f['timed']} captions in turns, full depth's twin "
        f"{page.interval(f['twin'], 1, 2)}; load of the machine {f['load']}.\n\n"
    )
    return words + page.page(f) + _minutes(f) + source(record)


def _minutes(f: Mapping[str, Any]) -> str:
    """How long the command takes, where it was measured."""
    if "minutes" not in f:
        return ""
    each = {name: round(value) for name, value in f["minutes"].items()}
    parts = ", ".join(f"{name} {value}" for name, value in each.items())
    whole = sum(each.values())
    return f"\nMinutes that this took, on two cores and beside other work: {parts}; {whole} in all.\n"


def own(name: str = "compare") -> str:
    """Rules on models that were trained as their papers do."""
    record = read(name)
    return NOT_MEASURED if record is None else page.own(record["figures"]) + source(record)


def modalities(name: str = "compare") -> str:
    """Which modality may leave early."""
    record = read(name)
    return NOT_MEASURED if record is None else page.modalities(record["figures"]) + source(record)


def signals(name: str = "compare") -> str:
    """AUC by boundary."""
    record = read(name)
    return NOT_MEASURED if record is None else page.signals(record["figures"]) + source(record)
