"""The camera's command under load."""

from __future__ import annotations

from typing import Any

from blocks.records import NOT_MEASURED, read, source
from mue_edge.calibrate.report.pages import table


def under_load() -> str:
    """Captions against the budget, and memory."""
    record = read("camera")
    if record is None:
        return NOT_MEASURED
    f = record["figures"]
    rows = [
        [
            name, f"{r['budget_ms']:.1f} ms", f"{r['frames_a_second']:.0f}", f"{r['captioned']:,}",
            f"{r['within']:.1%}", f"{r['p50_ms']:.1f} / {r['p95_ms']:.1f} / {r['p99_ms']:.1f} ms",
            f"{r['hurried']:.1%}", f"{r['wordless']:.1%}",
            f"{r['memory_mb']['first_quarter']:.0f} / {r['memory_mb']['last_quarter']:.0f} MB",
            f"{r['stop']['seconds']:.1f} s, {r['stop']['exit_code']}",
        ]
        for name, r in f["runs"].items()
    ]  # fmt: skip
    head = ["frames from, shown as", "budget", "frames a second", "captions", "within the budget"]
    head += ["p50 / p95 / p99", "hurried", "no word in time", "memory, first / last quarter"]
    full, times, seconds = f["full_depth"]["p50_ms"], f["times"], f["seconds"]
    words = (
        f"At full depth, without a budget, a caption takes {full:.1f} ms; frames come {times:g} times as "
        f"fast, for {seconds:.0f} s a run; load of the machine {_loads(f['runs'])}.\n\n"
    )
    return words + table([*head, "end by SIGINT: time, exit code"], rows) + source(record)


def ends() -> str:
    """How it ends with its source."""
    record = read("camera")
    if record is None:
        return NOT_MEASURED
    rows = [
        [
            name,
            str(e["exit_code"]),
            f"{e['seconds']:.1f} s" if "seconds" in e else "–",
            f"`{e['said']}`" if e["said"] else "–",
        ]
        for name, e in record["figures"]["ends"].items()
    ]
    return table(["source", "exit code", "after", "last line"], rows) + source(record)


def _loads(runs: dict[str, Any]) -> str:
    values = [run["load"] for run in runs.values()]
    return f"{min(values):.1f}–{max(values):.1f}"
