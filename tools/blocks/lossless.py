"""What lossless captions cost."""

from __future__ import annotations

from blocks.records import NOT_MEASURED, read, source
from mue_edge.calibrate.report import comparison_page as page
from mue_edge.calibrate.report.pages import table


def lossless() -> str:
    """Identity and time, a system a row."""
    record = read("lossless")
    if record is None:
        return NOT_MEASURED
    f = record["figures"]
    words = (
        f"The bundled model on {f['pictures']} held-out pictures; time: CPU time over full depth's of "
        f"{f['timed']} of them in turns.\n\n"
    )
    rows = [
        [row["system"], f"{row['same']} of {f['pictures']}", f"{row['calls']:.1f}",
         page.interval(row["time"], 1, 2)] for row in f["rows"]
    ]  # fmt: skip
    return words + table(["system", "same tokens", "calls a caption", "time"], rows) + source(record)
