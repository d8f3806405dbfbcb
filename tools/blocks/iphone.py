"""The iPhone's pages."""

from __future__ import annotations

from blocks.loop import int8_table
from blocks.records import NOT_MEASURED, holds, read, source
from mue_edge.calibrate.report.pages import table


def stickers() -> str:
    """Core ML packages through the evaluator: criteria of the loop, sizes."""
    record = read("iphone")
    if record is None:
        return NOT_MEASURED
    figures = record["figures"]
    rows, loops = [], []
    for precision in ("fp32", "fp16", "int8"):
        f = figures[precision]
        size, whole = (sum(x["bytes"] for x in y["packages"].values()) for y in (f, figures["fp32"]))
        rows.append(
            [f"`{precision}`", f"{size / 1e6:.2f} MB", f"{size / whole:.2f}", f"{f['graph_max_error']:.1e}"]
        )
        for name, loop in f.get("loop", {}).items():
            same = [f"{loop[k]} of {loop['pictures']}" for k in ("replay_same_tokens", "free_same_captions")]
            errors = f"{loop['score_error_p99']:.1e} / {loop['score_error_max']:.1e}"
            policy = "full depth" if name == "full" else "exits"
            loops.append([f"`{precision}`", policy, errors, *same, holds(loop["holds"])])
    int8 = {p: figures[p]["recalibrated"] for p in ("fp32", "int8")} | {"holds": figures["int8_holds"]}
    words = "`stickers`, from disk through the evaluator as declared, against the torch model.\n\n"
    words += table(["precision", "packages", "of fp32's", "largest error of a segment"], rows) + "\n"
    head = [
        "precision",
        "policy",
        "score error p99 / max",
        "replay: tokens equal",
        "free run: captions equal",
    ]
    words += table([*head, "criteria hold"], loops) + "\n" + int8_table(int8)
    return words + source(record)


def base() -> str:
    """Sizes, time and memory of an export of OFA-base's shape."""
    record = read("iphone-ofa-base")
    if record is None:
        return NOT_MEASURED
    f = record["figures"]
    rows = [
        [
            f"`{name}`", str(p["functions"]), f"{p['separate_weights'] / 1e6:.1f} MB",
            f"{p['weight_file'] / 1e6:.1f} MB", f"{p['weight_file'] / p['distinct_weights']:.3f}",
        ]
        for name, p in f["packages"].items()
    ]  # fmt: skip
    head = ["package", "functions", "weights apart", "weight file", "of distinct weights"]
    words = (
        f"Random weights of OFA-base's size ({f['parameters'] / 1e6:.1f} million), {f['height']} pixels, "
        f"{f['precision']}: exported in {f['export_seconds']:.0f} s with a peak of "
        f"{f['peak_bytes'] / 1e9:.1f} GB.\n\n"
    )
    return words + table(head, rows) + source(record)


def without_numpy() -> str:
    """The phone's path where NumPy is blocked, against the same packages with it, and the host."""
    record = read("iphone-without-numpy")
    if record is None:
        return NOT_MEASURED
    columns = {
        "equal": "captions, layers and scores equal to those with NumPy",
        "captions_as_host": "captions equal to the host's, cut alike",
        "exits_as_host": "layers too",
        "captions_as_host_by_layers": "captions equal to a host's that tests after every layer",
    }
    head = ["policy", *columns.values()]
    rows = [[name, *(f"{f[k]} of {f['pictures']}" for k in columns)] for name, f in record["figures"].items()]
    words = "`stickers` in halves, NumPy and torch blocked, the evaluator in Core ML's place.\n\n"
    return words + table(head, rows) + source(record)
