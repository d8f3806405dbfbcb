"""A comparison as a record, a page of tables in Markdown, and a chart of its fronts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mue_edge.calibrate.metrics.bootstrap import Estimate
from mue_edge.calibrate.policies.comparison import OWN, Comparison, ComparisonRow
from mue_edge.calibrate.policies.signals import SignalQuality
from mue_edge.calibrate.report import charts
from mue_edge.calibrate.report.pages import table

# Metric → how the field writes it.
METRICS = {"bleu_4": "BLEU-4", "meteor": "METEOR", "cider_d": "CIDEr-D", "spice": "SPICE"}
# Below it a front's points are of no use, and would press the others together.
LEAST_QUALITY = 0.85


def record(
    found: Comparison,
    metrics: Mapping[tuple[str, ...], Mapping[str, float]],
    signals: Sequence[SignalQuality],
) -> dict[str, Any]:
    """As JSON. `metrics`: COCO's, by the captions that they are of."""
    return {
        "full": _row(found.full, metrics), "rows": [_row(row, metrics) for row in found.rows],
        "modalities": [_row(row, metrics) for row in found.modalities],
        "none": [{"method": name, "aim": str(aim)} for name, aim in found.none],
        "twin": _estimate(found.twin), "timed": found.timed,
        "fronts": {
            name: [[round(t, 4), round(q, 4)] for t, q in front] for name, front in found.fronts.items()
        },
        "signals": [
            {"stack": s.stack, "depth": s.depth, "signal": s.signal, "kept": s.kept, "changed": s.changed,
             "auc": None if s.auc is None else round(s.auc, 4)} for s in signals
        ],
    }  # fmt: skip


def _row(row: ComparisonRow, metrics: Mapping[tuple[str, ...], Mapping[str, float]]) -> dict[str, Any]:
    return {
        "method": row.method, "own": row.own, "aim": str(row.aim),
        "policies": [policy.to_json() for policy in row.policies],
        "layers": {stack: round(value, 3) for stack, value in row.layers.items()},
        "macs": round(row.macs, 4), "kept_tune": round(row.kept_tune, 4), "quality": round(row.quality, 4),
        "change": _estimate(row.change), "by_seed": [round(mean, 5) for mean in row.by_seed],
        "time": _estimate(row.time),
        "over_mue": None if row.over_mue is None else _estimate(row.over_mue),
        "metrics": {name: round(value, 4) for name, value in metrics.get(row.captions, {}).items()},
    }  # fmt: skip


def _estimate(value: Estimate) -> dict[str, float]:
    return {name: round(getattr(value, name), 5) for name in ("mean", "low", "high")}


def page(found: Mapping[str, Any]) -> str:
    """The tables of a record, an aim each: rules on one backbone, and static models."""
    rows = [row for row in found["rows"] if row["own"] is None]
    aims = list(dict.fromkeys(row["aim"] for row in rows))
    parts = []
    for aim in aims:
        own = [row for row in rows if row["aim"] == aim]
        own.sort(key=lambda row: row["time"]["mean"] if "loss" in aim else -row["change"]["mean"])
        missing = [n["method"] for n in found["none"] if n["aim"] == aim and OWN not in n["method"]]
        parts.append(f"**{aim}**\n\n" + _methods([found["full"], *own]))
        if missing:
            parts[-1] += f"\nNo candidate reaches this under every seed: {', '.join(missing)}.\n"
    return "\n".join(parts)


def _methods(rows: Sequence[Mapping[str, Any]]) -> str:
    measured = [name for name in METRICS if any(name in row["metrics"] for row in rows)]
    stacks = list(rows[0]["layers"])
    head = ["method", "policy", "time", "quality, %", "over `mue`, %", *(METRICS[name] for name in measured)]
    head += [f"{stack} layers" for stack in stacks] + ["MACs"]
    lines = []
    for row in rows:
        names = dict.fromkeys(policy.get("name", "full") for policy in row["policies"])
        lines.append([
            row["method"], ", ".join(f"`{name}`" for name in names), interval(row["time"], 1, 2),
            interval(row["change"], 100, 1, "+"),
            "–" if row["over_mue"] is None else interval(row["over_mue"], 100, 1, "+"),
            *(f"{row['metrics'][name]:.3f}" if name in row["metrics"] else "–" for name in measured),
            *(f"{row['layers'][stack]:.2f}" for stack in stacks), f"{row['macs']:.2f}",
        ])  # fmt: skip
    return table(head, lines)


def own(found: Mapping[str, Any]) -> str:
    """Rules on models trained as their papers do, beside the same rules on the one backbone; empty if there
    are none."""
    rows = [row for row in found["rows"] if row["own"]]
    by = {(row["method"], row["aim"]): row for row in found["rows"]}
    lines = []
    for aim in dict.fromkeys(row["aim"] for row in found["rows"]):
        for name in dict.fromkeys(row["own"] for row in rows):
            pair = [by.get((name, aim)), by.get((name + OWN, aim))]
            lines.append([aim, name, *(
                "–" if row is None else interval(row[key], *how)
                for key, how in (("time", (1, 2)), ("change", (100, 1, "+"))) for row in pair
            )])  # fmt: skip
    head = ["aim", "rule", "time", "time, own", "quality, %", "quality, own, %"]
    return table(head, lines) if rows else ""


def modalities(found: Mapping[str, Any]) -> str:
    """Which modality may leave early."""
    rows = [found["full"], *found["modalities"]]
    stacks = list(rows[0]["layers"])
    head = ["exits", "quality, %", "time", *(f"{stack} layers" for stack in stacks)]
    names = {"full depth": "none"}
    return table(head, [
        [names.get(row["method"], row["method"]), interval(row["change"], 100, 1, "+"),
         interval(row["time"], 1, 2), *(f"{row['layers'][stack]:.2f}" for stack in stacks)] for row in rows
    ])  # fmt: skip


def signals(found: Mapping[str, Any]) -> str:
    """AUC of every signal by boundary."""
    names = list(dict.fromkeys(s["signal"] for s in found["signals"]))
    places = list(dict.fromkeys((s["stack"], s["depth"]) for s in found["signals"]))
    by = {(s["stack"], s["depth"], s["signal"]): s["auc"] for s in found["signals"]}
    rows = []
    for stack, depth in places:
        values = [by.get((stack, depth, name)) for name in names]
        rows.append([f"{stack} {depth}", *("–" if value is None else f"{value:.2f}" for value in values)])
    return table(["after layer", *names], rows)


def interval(value: Mapping[str, float], scale: float, digits: int, sign: str = "") -> str:
    """Mean and ends, with a proper minus."""
    mean, low, high = (f"{scale * value[k]:{sign}.{digits}f}" for k in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]".replace("-", "−")


def chart(found: Mapping[str, Any]) -> str:
    """Fronts as foretold on the tuning pictures, an SVG."""
    curves = {
        name: [(t, q) for t, q in front if q >= LEAST_QUALITY] for name, front in found["fronts"].items()
    }
    shown = {name: curve for name, curve in curves.items() if len(curve) > 1}
    return charts.lines(shown, "mean time of full depth's", "quality of full depth's, tuning pictures")
