"""What `mue-edge bench` measured."""

from __future__ import annotations

from typing import Any

from blocks.records import NOT_MEASURED, read, source
from mue_edge.calibrate.report.pages import table

SYSTEMS = {
    "full depth": "segments, full depth",
    "twin": "the same again (A/A control)",
    "monolithic": "one graph a stack, no exits",
}


def bench() -> str:
    """What exits save, and what segments cost."""
    records = [r for r in map(read, ("bench", "bench-ofa-tiny")) if r]
    if not records:
        return NOT_MEASURED
    return "\n".join(bench_table(record["figures"]) for record in records) + source(*records)


def bench_table(figures: dict[str, Any]) -> str:
    """One model: full depth, its twin, one graph a stack, and each policy's exits."""
    first = next(iter(figures.values()))
    labels = {name: SYSTEMS.get(name, f"`{name}`") for name in first["systems"] if name != "exits"}
    rows = [bench_row(label, first["systems"][name], first) for name, label in labels.items()]
    for f in figures.values():
        rows.append(
            bench_row(f"exits: {f['policy_origin'].removesuffix(', given')}", f["systems"]["exits"], f)
        )
    words = (
        f"`{first['bundle']}` on `{first['target']}`, {first['precision']}, greedy, {first['pictures']} "
        f"pictures, {first['rounds']} rounds:\n\n"
    )
    head = ["system", "layers run", "calls", "captions as at full depth", "CPU time / full depth"]
    return words + table(head, rows)


def bench_row(label: str, s: dict[str, Any], record: dict[str, Any]) -> list[str]:
    layers = ", ".join(f"{stack} {value:.2f}" for stack, value in s["layers"].items())
    r = s["cpu_ratio"]
    ratio = "1" if label == SYSTEMS["full depth"] else f"{r['median']:.3f} [{r['low']:.3f}–{r['high']:.3f}]"
    return [label, layers, f"{s['calls']:.1f}", f"{s['same_captions']} of {record['pictures']}", ratio]
