"""What was found of the Jetson target on a plain machine."""

from __future__ import annotations

from blocks.loop import int8_table
from blocks.records import NOT_MEASURED, holds, read, source
from mue_edge.calibrate.report.pages import table


def jetson() -> str:
    """What was found of the Jetson target on a plain machine."""
    records = {name: read(f"jetson-{name}") for name in ("loop", "adapter", "ofa-base", "gates")}
    words = ""
    if records["loop"]:
        figures = records["loop"]["figures"]
        rows = []
        for name, f in figures["fp16"].items():
            same = [f"{f[key]} of {f['pictures']}" for key in ("replay_same_tokens", "free_same_captions")]
            policy = "full depth" if name == "full" else "exits"
            rows.append([policy, f"{f['score_error_p99']:.1e}", *same, holds(f["holds"])])
        head = ["fp16, policy", "score error p99", "replay: tokens equal", "free run: captions equal"]
        words += table([*head, "criteria hold"], rows) + "\n"
        words += int8_table(figures["int8"]) + "\n"
    if records["adapter"]:
        rows = [
            [name, *(f"{f[f'{way}_equal']} of {f['pictures']}" for way in ("look_ahead", "one_by_one"))]
            for name, f in records["adapter"]["figures"].items()
        ]
        head = ["adapter over stand-ins, policy", "equal to the host, look-ahead", "and one by one"]
        words += table(head, rows) + "\n"
    if records["ofa-base"]:
        export = records["ofa-base"]["figures"]
        size = sum(export["bytes"].values()) / 1e6
        words += (
            f"A random model of OFA-base's shape: exported in {export['seconds'] / 60:.1f} minutes "
            f"({export['cpu_seconds'] / 60:.1f} of processor time, load average {export['load']:.0f}), "
            f"{export['peak_bytes'] / 1e9:.1f} GB of memory, {size:.0f} MB.\n\n"
        )
    if records["gates"]:
        rows = [
            [model, name, str(f["segments"]), f["gates"], f.get("proxy", "not run")]
            for model, figures in records["gates"]["figures"].items()
            for name, f in figures.items()
        ]
        words += table(["model", "profile, precision", "segments", "gates", "proxy build"], rows) + "\n"
    found = [record for record in records.values() if record]
    return words.rstrip("\n") + "\n" + source(*found) if found else NOT_MEASURED
