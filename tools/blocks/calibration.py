"""Calibration, its certificate, and the deadline at run time."""

from __future__ import annotations

from blocks.records import NOT_MEASURED, holds, read, source
from mue_edge.calibrate.report.pages import table

QUALITIES = {"cider_d": 2, "exact_match": 3}  # digits


def calibrated(name: str = "calibrate", quality: str = "CIDEr-D", drop: str = "3 %") -> str:
    """What `mue-edge calibrate` said for several budgets, for a loss of `quality` below `drop`."""
    record = read(name)
    if record is None:
        return NOT_MEASURED
    rows = [
        [
            f"`{budget}`", f"{f['budget_ms']:.1f} ms", f"`{f['chosen']}`",
            f"{f['predicted_ms']:.2f} / {f['predicted_p95_ms']:.2f} ms",
            f"{f['live_ms']:.2f} / {f['live_p95_ms']:.2f} ms", f"{f['live_of_full_depth']:.2f}",
            f"{f['kept_tune']:.1%}", "yes" if f["certified"] else "no",
            "–" if f["drop_bound_of_primary"] is None else f"{f['drop_bound_of_primary']:.1%}",
        ]
        for budget, f in record["figures"].items()
    ]  # fmt: skip
    head = ["budget", "that 95 % shall keep", "chosen", "predicted mean / p95", "live mean / p95"]
    head += ["live, of full depth", f"{quality} kept, tuning", f"certified < {drop}", "drop below, at 90 %"]
    return table(head, rows) + source(record)


def certificate() -> str:
    """How often a certificate is wrong, and how often it says what is true."""
    record = read("certificate")
    if record is None:
        return NOT_MEASURED
    cases, walks = [], []
    for name, f in record["figures"].items():
        for covered, power in zip(f["coverage"], f["power"], strict=True):
            cases.append(
                [
                    name, covered["policy"], f"{covered['drop']:.2%}", f"{covered['error']:.2f}",
                    f"{covered['rate']:.4f} ≤ {covered['allowed']:.4f}", f"{power['rate']:.4f}",
                    holds(covered["holds"] and power["holds"]),
                ]
            )  # fmt: skip
        w = f["walk"]
        walks.append(
            [
                name, str(w["policies"]), f"{w['drop']:.2%}", f"{w['error']:.2f}",
                f"{w['any_false']:.4f} ≤ {w['allowed']:.4f}", f"{w['some_true']:.4f}", holds(w["holds"]),
            ]
        )  # fmt: skip
    first = record["figures"]["simulated"]
    one, power = first["coverage"][0], first["power"][0]
    words = (
        f"{one['repetitions']} certifying sets of {one['clusters']} clusters each; power is at a true drop "
        f"of 0, for δ = {power['drop']:.0%} and ε = {power['error']:.2f}.\n\n"
    )
    head = ["scores", "policy", "true drop, claimed as δ", "ε", "certified although false ≤ allowed"]
    head += ["certified although nothing is lost", "criteria hold"]
    more = ["scores", "policies", "δ", "ε", "any false one certified ≤ allowed", "some true one certified"]
    return words + table(head, cases) + "\n" + table([*more, "criterion holds"], walks) + source(record)


def deadline() -> str:
    """What a limit at run time costs, under slow moments."""
    record = read("deadline")
    if record is None:
        return NOT_MEASURED
    f = record["figures"]
    rows = [
        [
            kind, f"{1000 * due['limit']:.1f} ms", f"{1000 * due['seconds_mean']:.1f} ms",
            f"{due['within']:.1%}", f"{due['within_one_segment']:.1%}", f"{due['cut_short']:.1%}",
            *(f"{due[q]:.{d}f} / {due['fixed_same_time'][q]:.{d}f}" for q, d in QUALITIES.items()),
            holds(due["holds"]),
        ]
        for kind in ("bursts", "random")
        for due in f[kind]["deadline"]
    ]  # fmt: skip
    words = (
        f"{f['captions']} pictures of {f['pictures']}; a slow decoder call takes {f['slower']:.0f} times as "
        f"long; load of the machine {f['load']}.\n\n"
    )
    head = ["slow calls", "limit", "mean time", "within the limit", "within it and one segment", "cut short"]
    head += ["CIDEr-D / of fixed policies in the same time", "exact match / of the same", "criteria hold"]
    return words + table(head, rows) + source(record)
