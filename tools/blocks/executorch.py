"""ExecuTorch's pages."""

from __future__ import annotations

from blocks.bench import bench_table
from blocks.loop import int8_table, loop_table
from blocks.records import NOT_MEASURED, read, source
from mue_edge.calibrate.report.pages import table


def loop() -> str:
    """The same through ExecuTorch's runtime."""
    words = "The `stickers` bundles on ExecuTorch's own runtime against the torch model, fp32, greedy.\n\n"
    names = {f"executorch-loop-{target}": f"`{target}`" for target in ("android", "embedded-linux")}
    return loop_table("target", words, names)


def int8() -> str:
    """int8 against fp32, each with thresholds of its own scores."""
    record = read("executorch-int8")
    if record is None:
        return NOT_MEASURED
    f = record["figures"]
    size = ", ".join(f"{name} {f[name]['program_bytes'] / 1e6:.1f} MB" for name in ("fp32", "int8"))
    return int8_table(f) + f"Size of the program: {size}.\n" + source(record)


def java() -> str:
    """The Android adapter over a JVM, against the host."""
    record = read("executorch-java")
    if record is None:
        return NOT_MEASURED
    rows = [
        [
            name, f"{f['equal']} of {f['pictures']}", f"{f['decoder_layers'] / f['tokens']:.2f}",
            f"{f['score_difference']:.1e}",
        ]
        for name, f in record["figures"]["policies"].items()
    ]  # fmt: skip
    head = ["policy", "captions and decisions equal to the host's", "decoder layers a token"]
    return table([*head, "largest difference of a score"], rows) + source(record)


def vulkan() -> str:
    """What the GPU's backend takes of the bundled model."""
    record = read("executorch-vulkan")
    if record is None:
        return NOT_MEASURED
    f = record["figures"]
    whole = sum(note["delegates"] == 1 and not note["host"] for note in f["segments"].values())
    left = "; ".join(f"{k}: {', '.join(note['host'])}" for k, note in f["segments"].items() if note["host"])
    words = f"`stickers`: Vulkan takes {whole} of {len(f['segments'])} segments whole"
    words += f" (left to the runtime, {left})" if left else ""
    return words + f"; the program has {f['program_bytes'] / 1e6:.1f} MB.\n" + source(record)


def base() -> str:
    """What OFA-base's size costs to lower and to load."""
    record = read("executorch-base")
    if record is None:
        return NOT_MEASURED
    f = record["figures"]
    parts = sorted(set(f["delegates"].values()))
    rows = [
        ["program", f"{f['program_bytes'] / 1e6:.0f} MB, {f['methods']} methods"],
        ["delegates a method", ", ".join(f"{n}: {_with(f['delegates'], n)}" for n in parts)],
        ["left to ExecuTorch", "; ".join(f"{k}: {', '.join(v)}" for k, v in f["host"].items())],
        ["peak memory of export", f"{f['export_peak_mb'] / 1000:.1f} GB"],
    ]
    for how, words in (("lazily", "what a caption with early exits needs"), ("eagerly", "every method")):
        load = f["loading"][how]
        took = f"{load['methods']:.0f} methods, {load['load_seconds']:.1f} s, {load['loaded_mb']:.0f} MB"
        took += f" (before: {load['mb_before']:.0f}); {load['captioned_mb']:.0f} MB after such a caption"
        rows.append([f"loading {how} ({words})", took])
    return table(["OFA-base with MuE's encoder, random weights", ""], rows) + source(record)


def _with(delegates: dict[str, int], n: int) -> str:
    names = [name for name, count in delegates.items() if count == n]
    return ", ".join(names) if len(names) < 5 else f"{len(names)} methods"


def bench() -> str:
    """Segments, one graph a stack, and the host's bundle."""
    record = read("executorch-bench")
    return NOT_MEASURED if record is None else bench_table(record["figures"]) + source(record)
