"""A comparison as a record, a page of tables in Markdown, and a chart of its Pareto fronts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mue_edge.calibrate.metrics.bootstrap import Estimate
from mue_edge.calibrate.policies.comparison import OWN, Comparison, ComparisonRow
from mue_edge.calibrate.policies.signals import SignalQuality
from mue_edge.calibrate.report import charts
from mue_edge.calibrate.report.findings import optional
from mue_edge.calibrate.report.pages import table

# Metric → how the field writes it.
METRICS = {"bleu_4": "BLEU-4", "meteor": "METEOR", "cider_d": "CIDEr-D", "spice": "SPICE"}
# Below it a front's points are of no use, and would press the others together.
LEAST_QUALITY = 0.85


def record(
    comparison: Comparison, metrics: Mapping[tuple[str, ...], Mapping[str, float]], auc: Sequence[SignalQuality]
) -> dict[str, Any]:
    """As JSON, floats to five digits. `metrics`: COCO's, by the captions that they are of."""

    def row(of: ComparisonRow) -> dict[str, Any]:
        policies = {"policies": [policy.to_json() for policy in of.policies]}
        texts = {"aim": str(of.aim), "metrics": metrics.get(of.captions, {})}
        plain = {name: value for name, value in vars(of).items() if name not in ("policies", "captions")}
        return {**_encoded(plain | texts), **policies}

    rows = {name: [row(of) for of in getattr(comparison, name)] for name in ("rows", "modalities")}
    none = [{"method": name, "aim": str(aim)} for name, aim in comparison.none]
    figures = {name: _encoded(getattr(comparison, name)) for name in ("twin", "timed", "fronts")}
    signals = [_encoded(vars(signal)) for signal in auc]
    return {"full": row(comparison.full), **rows, "none": none, **figures, "signals": signals}


def _encoded(value: Any) -> Any:
    if isinstance(value, Estimate):
        return {name: round(getattr(value, name), 5) for name in ("mean", "low", "high")}
    if isinstance(value, Mapping):
        return {key: _encoded(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [_encoded(inner) for inner in value]
    return round(value, 5) if isinstance(value, float) else value


def projection(content: Mapping[str, Any]) -> str:
    """That times are a projection, and of what; empty where they were measured."""
    if "projection" not in content:
        return ""
    large = content["projection"]
    return (
        f"**A projection.** No such model ran: times are predicted as if the head had {large['words']:,} words, a "
        f"call of it costing {large['layers']:.2f} decoder layers, as measured on {content['device']} on random "
        f"weights of {large['size']}'s shape (a layer against itself: {large['twin']:.2f}). Quality, layers and MACs "
        "are those of the model as it is.\n"
    )


def winners(contents: Mapping[str, Mapping[str, Any]], most: int = 3) -> str:
    """Of several records by heading, the best methods on the one backbone for each aim, as `page` sorts them."""
    lines = []
    for aim in dict.fromkeys(row["aim"] for content in contents.values() for row in content["rows"]):
        cells = []
        for content in contents.values():
            rows = [r for r in _sorted(content, aim) if r["method"] != "best"][:most]
            cells.append("; ".join(f"{r['method']} ({_time(r)}, {_percent(r['change'])} %)" for r in rows) or "–")
        lines.append([aim, *cells])
    return table(["aim", *contents], lines)


def _sorted(content: Mapping[str, Any], aim: str) -> list[Mapping[str, Any]]:
    """An aim's rows but those of rules' own trainings, the best first."""
    rows = [row for row in content["rows"] if row["own"] is None and row["aim"] == aim]
    return sorted(rows, key=lambda row: row["time"]["mean"] if "loss" in aim else -row["change"]["mean"])


def page(content: Mapping[str, Any]) -> str:
    """The tables of a record, an aim each: rules on one backbone, and static models."""
    parts = []
    for aim in dict.fromkeys(row["aim"] for row in content["rows"] if row["own"] is None):
        missing = [n["method"] for n in content["none"] if n["aim"] == aim and OWN not in n["method"]]
        parts.append(f"**{aim}**\n\n" + _methods([content["full"], *_sorted(content, aim)]))
        if missing:
            parts[-1] += f"\nNo candidate reaches this under every seed: {', '.join(missing)}.\n"
    return "\n".join(parts)


def _methods(rows: Sequence[Mapping[str, Any]]) -> str:
    measured = [name for name in METRICS if any(name in row["metrics"] for row in rows)]
    stacks = list(rows[0]["layers"])
    head = ["method", "policy", "time", "quality, %", "over `mue`, %", *(METRICS[name] for name in measured)]
    lines = []
    for row in rows:
        names = dict.fromkeys(policy.get("name", "full") for policy in row["policies"])
        figures = [optional(row["metrics"].get(name), ".3f") for name in measured]
        figures += [f"{value:.2f}" for value in (*row["layers"].values(), row["macs"])]
        policies = ", ".join(f"`{name}`" for name in names)
        intervals = _time(row), _percent(row["change"]), _percent(row["over_mue"])
        lines.append([row["method"], policies, *intervals, *figures])
    return table([*head, *(f"{stack} layers" for stack in stacks), "MACs"], lines)


def own(content: Mapping[str, Any]) -> str:
    """Rules on models trained as their papers do, beside the same rules on the one backbone; empty if there
    are none."""
    rules = dict.fromkeys(row["own"] for row in content["rows"] if row["own"])
    by = {(row["method"], row["aim"]): row for row in content["rows"]}
    lines = []
    for aim in dict.fromkeys(row["aim"] for row in content["rows"]):
        for name in rules:
            pair = [by.get((name, aim)), by.get((name + OWN, aim))]
            cells = ["–" if row is None else _time(row) for row in pair]
            lines.append([aim, name, *cells, *(_percent(row and row["change"]) for row in pair)])
    head = ["aim", "rule", "time", "time, own", "quality, %", "quality, own, %"]
    return table(head, lines) if rules else ""


def modalities(content: Mapping[str, Any]) -> str:
    """Which modality may exit early."""
    rows = [content["full"], *content["modalities"]]
    names = {"full depth": "none"}
    lines = []
    for row in rows:
        layers = [f"{value:.2f}" for value in row["layers"].values()]
        lines.append([names.get(row["method"], row["method"]), _percent(row["change"]), _time(row), *layers])
    return table(["exits", "quality, %", "time", *(f"{stack} layers" for stack in rows[0]["layers"])], lines)


def signals(content: Mapping[str, Any]) -> str:
    """AUC of every signal by boundary."""
    names = list(dict.fromkeys(s["signal"] for s in content["signals"]))
    places = list(dict.fromkeys((s["stack"], s["depth"]) for s in content["signals"]))
    by = {(s["stack"], s["depth"], s["signal"]): s["auc"] for s in content["signals"]}
    rows = [
        [f"{stack} {depth}", *(optional(by.get((stack, depth, name)), ".2f") for name in names)]
        for stack, depth in places
    ]
    return table(["after layer", *names], rows)


def _time(row: Mapping[str, Any]) -> str:
    return interval(row["time"], 1, 2)


def _percent(change: Mapping[str, float] | None) -> str:
    return "–" if change is None else interval(change, 100, 1, "+")


def interval(value: Mapping[str, float], scale: float, digits: int, sign: str = "") -> str:
    """Mean and ends, with a proper minus."""
    mean, low, high = (f"{scale * value[k]:{sign}.{digits}f}" for k in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]".replace("-", "−")


def chart(content: Mapping[str, Any]) -> str:
    """Pareto fronts as predicted on the tuning pictures, an SVG."""
    curves = {}
    for name, front in content["fronts"].items():
        points = [(time, quality) for time, quality in front if quality >= LEAST_QUALITY]
        if len(points) > 1:
            curves[name] = points
    return charts.lines(curves, "mean time of full depth's", "quality of full depth's, tuning pictures")
