"""Quality kept at given savings of time."""

from __future__ import annotations

from typing import Any

from blocks.records import NOT_MEASURED, read, source
from mue_edge.calibrate.report.pages import table

FAMILIES = {"fixed": "fixed depths", "mue": "MuE's own rule", "best": "best candidate"}


def saved(name: str) -> str:
    """Quality kept at −30 … −70 % of full depth's time, on pictures that had no part in the choice."""
    record = read(name)
    if record is None:
        return NOT_MEASURED
    f = record["figures"]
    rows: list[list[str]] = []
    for share in sorted({row["share"] for row in f["rows"]}):
        cells = [f"−{share:.0%}"]
        for family in FAMILIES:
            row = next((r for r in f["rows"] if (r["share"], r["family"]) == (share, family)), None)
            cells += ["–", "–"] if row is None else saving(row)
        rows.append(cells)
    head = [
        "mean time",
        *(cell for title in FAMILIES.values() for cell in (title, "CIDEr-D kept; live time")),
    ]
    twin = f["twin"]
    words = (
        f"Chosen on {f['tune']['pictures']} tuning pictures by predicted mean time, judged on "
        f"{f['held']['pictures']} others (test_render and test_comp, {f['held']['clusters']} clusters; in "
        "brackets 90 % intervals). Live: CPU time over full depth's, ratio of sums, "
        f"{f['timed']} pictures in turns; full depth's own twin: {twin['of_sums']:.3f}.\n\n"
    )
    if "base" in f:
        base, ends = f["base"], f["base"]["ends"]
        words += (
            f"The base: {base['height']} px, {base['precision']}, a segment ending after layers "
            f"{', '.join(map(str, ends['decoder']))} of each stack; the fastest full depth of "
            f"{len(f['plans'])} plans that kept 99 % on {f['subset']} tuning pictures. Its own CIDEr-D on "
            f"the others is {f['held']['cider_d_base']:.2f}.\n\n"
        )
    return words + table(head, rows) + source(record)


def saving(row: dict[str, Any]) -> list[str]:
    """Policy (and its plan where plans differ), quality kept, and live time."""
    change, plan = row["change_held"], row["plan"]
    kept = ", ".join(f"{100 * (1 + change[key]):.1f}" for key in ("low", "high"))
    where = f" at {plan['height']} px, {plan['precision']}" if "precision" in plan else ""
    shown = f"`{row['policy'].get('name', 'full')}`{where}"
    return [shown, f"{100 * (1 + change['mean']):.1f} % [{kept}]; {row['live']['of_sums']:.2f}"]
