"""The host's bundles on other processors: int8's sums, and arm64."""

from __future__ import annotations

from typing import Any

from blocks.records import NOT_MEASURED, read, source
from mue_edge.calibrate.report.pages import table

EXACT, TWIN, USUAL, SEVEN = "exact", "exact again (A/A control)", "usual kernels", "7-bit weights"
INTEGERS = "sums in integers"


def int8() -> str:
    """Errors, exits and time of int8 with exact sums, and without."""
    record = read("int8-exact")
    if record is None:
        return NOT_MEASURED
    figures = record["figures"]
    errors = [
        [
            processor,
            model,
            str(len(segments)),
            *(_span(segments, name) for name in (INTEGERS, EXACT, USUAL, SEVEN)),
        ]
        for processor, f in figures.items()
        for model, segments in f["segments"].items()
    ]
    times = [
        [processor, model, *(_ratio(f["time"][model]["cpu_ratio"][name]) for name in (TWIN, USUAL, SEVEN))]
        for processor, f in figures.items()
        for model in f["segments"]
    ]
    exits = [
        [
            processor,
            *(
                f"{f['exits'][system][key]} of {f['exits'][system]['pictures']}"
                for system, key in ((EXACT, "as_first_processor"), (USUAL, "as_exact"))
            ),
        ]
        for processor, f in figures.items()
    ]
    head = [
        "processor",
        "model",
        "int8 segments",
        "summed in integers",
        "option set",
        "usual kernels",
    ]
    return (
        "Error of a segment's output against float32, smallest to largest of all int8 segments (root mean "
        "square, as a share of the output):\n\n"
        + table([*head, "7-bit weights, usual kernels"], errors)
        + "\nExits and captions of `stickers` under `fast` and `balanced`:\n\n"
        + table(
            ["processor", "option set: as on the first processor", "usual kernels: as with the option"], exits
        )
        + "\nProcessor time of captions at full depth, as a share of that with the option set:\n\n"
        + table(["processor", "model", "option set again (A/A)", "usual kernels", "7-bit weights"], times)
        + "\nOne product of 36 rows and 256 x 256 weights with signed activations, as a share of the time "
        "with unsigned ones: "
        + ", ".join(f"{name} {_ratio(f['products']['int8']['cpu_ratio'])}" for name, f in figures.items())
        + ".\n"
        + source(record)
    )


def _span(segments: dict[str, dict[str, float]], name: str) -> str:
    values = [errors[name] for errors in segments.values()]
    return f"{min(values):.4f}–{max(values):.4f}"


def _ratio(r: dict[str, float]) -> str:
    return f"{r['median']:.3f} [{r['low']:.3f}–{r['high']:.3f}]"


def wasm() -> str:
    """What a page's runtime does."""
    record = read("int8-wasm")
    if record is None:
        return NOT_MEASURED
    errors = ", ".join(f"`{name}` {times:.3f}" for name, times in record["figures"]["errors"].items())
    words = f"{record['figures']['runtime']} in node, errors as multiples of those by exact sums: {errors}.\n"
    return words + source(record)


def arm64() -> str:
    """What a host bundle answers under an arm64 Python."""
    record = read("arm64")
    if record is None:
        return NOT_MEASURED
    f = record["figures"]
    rows = []
    for precision in ("fp32", "int8"):
        for cpu, v in f[precision]["verify"].items():
            sums = ", ".join(f"{name} {times:.3f}" for name, times in v["sums"].items())
            captions = _captions(f[precision]["captions"], cpu)
            rows.append([
                precision, cpu, f"{v['replay_same_tokens']} of {v['logs']}", f"{v['max_score_error']:.1e}",
                f"{v['free_same_exits']} of {v['logs']}", sums or "–", captions,
            ])  # fmt: skip
    head = [
        "precision",
        "processor",
        "replays with equal tokens",
        "largest score error",
        "same exits, run freely",
    ]
    packages = ", ".join(f"{name} {version}" for name, version in f["packages"].items())
    words = f"`mue-edge verify` of the `stickers` bundles; {f['qemu']}; {packages}:\n\n"
    return (
        words
        + table([*head, "error / that of exact sums", "captions and exits as on x86-64"], rows)
        + source(record)
    )


def _captions(found: dict[str, Any], cpu: str) -> str:
    if cpu != found["processor"]:
        return "not run"
    n = found["pictures"]
    return f"`{found['policy']}`: {found['same_captions']} and {found['same_exits']} of {n}"
