"""Errors of every int8 segment, exits on 200 pictures, time; weights of 7 bits for comparison."""

from __future__ import annotations

from typing import Any

from mue_edge.calibrate.report.pages import table
from proving.bundles import random_model
from proving.rendering import Record

EXACT, TWIN, USUAL, SEVEN = "exact", "exact again (A/A control)", "usual kernels", "7-bit weights"
INTEGERS = "sums in integers"
QUIET = True


def measure() -> dict[str, Any]:
    from mue_edge.apps.stickers import model_folder
    from proving.int8_exact import bundle_of, measured, runtimes

    bundles = {
        name: {kind: str(bundle_of(name, folder, kind)) for kind in ("fp32", "int8", "int8 of 7 bits")}
        for name, folder in (("stickers", model_folder()), ("ofa-tiny", random_model("ofa-tiny")))
    }
    figures = {name: measured(name, place, bundles) for name, place in runtimes()}
    usual = next(iter(figures.values()))["decisions"]
    for found in figures.values():
        decisions = found.pop("decisions")
        found["exits"] = {
            system: {
                "pictures": len(runs),
                "as_exact": sum(a == b for a, b in zip(runs, decisions["exact"], strict=True)),
                "as_first_processor": sum(a == b for a, b in zip(runs, usual["exact"], strict=True)),
            }
            for system, runs in decisions.items()
        }
    return figures


def render(record: Record) -> str:
    """Errors, exits and time of int8 with exact sums, and without."""
    figures = record["figures"]
    errors = [
        [
            processor,
            model,
            str(len(segments)),
            *(_render_span(segments, name) for name in (INTEGERS, EXACT, USUAL, SEVEN)),
        ]
        for processor, f in figures.items()
        for model, segments in f["segments"].items()
    ]
    times = [
        [processor, model, *(_render_ratio(f["time"][model]["cpu_ratio"][name]) for name in (TWIN, USUAL, SEVEN))]
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
    head = ["processor", "model", "int8 segments", "summed in integers", "option set", "usual kernels"]
    return (
        "Error of a segment's output against float32, smallest to largest of all int8 segments (root mean "
        "square, as a share of the output):\n\n"
        + table([*head, "7-bit weights, usual kernels"], errors)
        + "\nExits and captions of `stickers` under `fast` and `balanced`:\n\n"
        + table(["processor", "option set: as on the first processor", "usual kernels: as with the option"], exits)
        + "\nProcessor time of captions at full depth, as a share of that with the option set:\n\n"
        + table(["processor", "model", "option set again (A/A)", "usual kernels", "7-bit weights"], times)
        + "\nOne product of 36 rows and 256 x 256 weights with signed activations, as a share of the time "
        "with unsigned ones: "
        + ", ".join(f"{name} {_render_ratio(f['products']['int8']['cpu_ratio'])}" for name, f in figures.items())
        + ".\n"
    )


def _render_span(segments: dict[str, dict[str, float]], name: str) -> str:
    values = [errors[name] for errors in segments.values()]
    return f"{min(values):.4f}–{max(values):.4f}"


def _render_ratio(r: dict[str, float]) -> str:
    return f"{r['median']:.3f} [{r['low']:.3f}–{r['high']:.3f}]"
