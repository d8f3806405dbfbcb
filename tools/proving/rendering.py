"""What several proofs render alike: Markdown of their figures. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mue_edge.calibrate.report.pages import table

Record = Mapping[str, Any]
SYSTEMS = {
    "full depth": "segments, full depth",
    "twin": "the same again (A/A control)",
    "monolithic": "one graph a stack, no exits",
}
FAMILIES = {"fixed": "fixed depths", "mue": "MuE's own rule", "best": "best candidate"}


def holds(value: bool) -> str:
    """A criterion's outcome; a failure is meant to be seen."""
    return "yes" if value else "**no**"


def bench_table(figures: dict[str, Any]) -> str:
    """One model: full depth, its A/A control, one graph a stack, and each policy's exits."""
    first = next(iter(figures.values()))
    labels = {name: SYSTEMS.get(name, f"`{name}`") for name in first["systems"] if name != "exits"}
    rows = [_bench_row(label, first["systems"][name], first) for name, label in labels.items()]
    for f in figures.values():
        rows.append(_bench_row(f"exits: {f['policy_origin'].removesuffix(', given')}", f["systems"]["exits"], f))
    words = (
        f"`{first['bundle']}` on `{first['target']}`, {first['precision']}, greedy, {first['pictures']} "
        f"pictures, {first['rounds']} rounds:\n\n"
    )
    head = ["system", "layers run", "calls", "captions as at full depth", "CPU time / full depth"]
    return words + table(head, rows)


def _bench_row(label: str, s: dict[str, Any], record: dict[str, Any]) -> list[str]:
    layers = ", ".join(f"{stack} {value:.2f}" for stack, value in s["layers"].items())
    ratio = "1" if label == SYSTEMS["full depth"] else _interval(s["cpu_ratio"])
    return [label, layers, f"{s['calls']:.1f}", f"{s['same_captions']} of {record['pictures']}", ratio]


def _interval(r: dict[str, float]) -> str:
    return f"{r['median']:.3f} [{r['low']:.3f}–{r['high']:.3f}]"


def rivals_table(figures: dict[str, Any]) -> str:
    """A row for each model, precision, system and rival; where the rival takes less time, its row is in bold."""
    rows, settings, words = [], {}, []
    for model, f in figures.items():
        control = _interval(f["systems"]["twin"]["cpu_ratio"])
        words.append(f"{model}: {f['pictures']} pictures, {f['rounds']} rounds, A/A control {control}")
        for name, rival in f["rivals"].items():
            settings[f"{name} {rival['version']}: {rival['settings']}"] = None
            for system, ratios in rival["ratios"].items():
                label = f"exits: {f['policy_origin'].removesuffix(', given')}" if system == "exits" else system
                values = [_interval(ratios[key]) for key in ("cpu", "cpu_without_stem", "wall")]
                mark = "**" if ratios["cpu"]["median"] > 1 else ""
                same = f"{rival['same_captions']} of {f['pictures']}"
                rows.append([model, f"{mark}{label} ÷ {name}{mark}", *values, same])
    head = ["model", "system ÷ rival", "CPU time", "without stem", "wall-clock", "captions as at full depth"]
    return table(head, rows) + "\n" + "; ".join(words) + ".\n\n" + "".join(f"- {line}\n" for line in settings)


def int8_table(f: dict[str, Any]) -> str:
    """Criterion (c): both precisions with thresholds of their own scores."""
    rows = [
        [
            name,
            f"{f[name]['image_layers']:.2f} / {f[name]['decoder_layers']:.2f}",
            f"{f[name]['cider_d']:.3f}",
            f"{f[name]['exact_match']:.3f}",
        ]
        for name in ("fp32", "int8")
    ]
    head = ["precision", "image / decoder layers run", "CIDEr-D", "exact match"]
    verdict = "holds" if f["holds"] else "does **not** hold"
    words = f"\nCIDEr-D within 1 % and mean layers within 5 % of fp32's: {verdict}, on "
    return table(head, rows) + words + f"{f['int8']['pictures']} pictures.\n"


def loop_table(record: Record) -> str:
    """Forced replay and free run against the torch model, a policy a row."""
    rows = [
        [
            "full depth" if name == "full" else "exits",
            f"{f['mean_image_layers']:.2f} / {f['mean_layers']:.2f}",
            f"{f['score_error_p99']:.1e} / {f['score_error_max']:.1e}",
            f"{f['replay_same_tokens']} of {f['pictures']}",
            f"{f['free_same_captions']} of {f['pictures']}",
            holds(f["holds"]),
        ]
        for name, f in record["figures"].items()
    ]
    head = [
        "policy", "image / decoder layers run", "score error p99 / max", "replay: tokens equal",
        "free run: captions equal", "criteria hold",
    ]  # fmt: skip
    return table(head, rows)


def calibrated(record: Record, quality: str, drop: str) -> str:
    """What `mue-edge calibrate` said for several budgets, for a loss of `quality` below `drop`."""
    rows = [
        [
            f"`{budget}`",
            f"{f['budget_ms']:.1f} ms",
            f"`{f['chosen']}`",
            f"{f['predicted_ms']:.2f} / {f['predicted_p95_ms']:.2f} ms",
            f"{f['live_ms']:.2f} / {f['live_p95_ms']:.2f} ms",
            f"{f['live_of_full_depth']:.2f}",
            f"{f['kept_tune']:.1%}",
            "yes" if f["certified"] else "no",
            "–" if f["drop_bound_of_primary"] is None else f"{f['drop_bound_of_primary']:.1%}",
        ]
        for budget, f in record["figures"].items()
    ]
    head = ["budget", "that 95 % shall keep", "chosen", "predicted mean / p95", "live mean / p95"]
    head += ["live, of full depth", f"{quality} kept, tuning", f"certified < {drop}", "drop below, at 90 %"]
    return table(head, rows)


def saved(record: Record) -> str:
    """Quality kept at −30 … −70 % of full depth's time, on pictures that had no part in the choice."""
    f = record["figures"]
    rows: list[list[str]] = []
    for share in sorted({row["share"] for row in f["rows"]}):
        cells = [f"−{share:.0%}"]
        for family in FAMILIES:
            row = next((r for r in f["rows"] if (r["share"], r["family"]) == (share, family)), None)
            cells += ["–", "–"] if row is None else _saving(row)
        rows.append(cells)
    head = ["mean time", *(cell for title in FAMILIES.values() for cell in (title, "CIDEr-D kept; live time"))]
    twin = f["twin"]
    words = (
        f"Chosen on {f['tune']['pictures']} tuning pictures by predicted mean time, judged on "
        f"{f['held']['pictures']} others (test_render and test_comp, {f['held']['clusters']} clusters; in "
        "brackets 90 % intervals). Live: CPU time over full depth's, ratio of sums, "
        f"{f['timed']} pictures in turns; full depth against itself (A/A control): {twin['of_sums']:.3f}.\n\n"
    )
    if "base" in f:
        base, ends = f["base"], f["base"]["ends"]
        words += (
            f"The base: {base['height']} px, {base['precision']}, a segment ending after layers "
            f"{', '.join(map(str, ends['decoder']))} of each stack; the fastest full depth of "
            f"{len(f['plans'])} plans that kept 99 % on {f['subset']} tuning pictures. Its own CIDEr-D on "
            f"the others is {f['held']['cider_d_base']:.2f}.\n\n"
        )
    return words + table(head, rows)


def _saving(row: dict[str, Any]) -> list[str]:
    """Policy (and its plan where plans differ), quality kept, and live time."""
    change, plan = row["change_held"], row["plan"]
    kept = ", ".join(f"{100 * (1 + change[key]):.1f}" for key in ("low", "high"))
    where = f" at {plan['height']} px, {plan['precision']}" if "precision" in plan else ""
    shown = f"`{row['policy'].get('name', 'full')}`{where}"
    return [shown, f"{100 * (1 + change['mean']):.1f} % [{kept}]; {row['live']['of_sums']:.2f}"]


def methods(record: Record) -> str:
    """Every exit method for every aim."""
    from mue_edge.calibrate.report import comparison_page as page

    f = record["figures"]
    tune, held = f["tune"], f["held"]
    words = (
        f"Chosen on {tune['pictures']} pictures of {tune['source']}, judged on {held['pictures']} of "
        f"{held['source']} ({held['clusters']} clusters); means over {f['seeds']} seeds, 90 % intervals. "
        f"Time: {f['clock']} time of {f['timed']} captions in turns, full depth against itself "
        f"{page.interval(f['twin'], 1, 2)}; load of the machine {f['load']}.\n\n"
    )
    return words + page.page(f) + _minutes(f)


def _minutes(f: Mapping[str, Any]) -> str:
    """How long the command takes, where it was measured."""
    if "minutes" not in f:
        return ""
    each = {name: round(value) for name, value in f["minutes"].items()}
    parts = ", ".join(f"{name} {value}" for name, value in each.items())
    whole = sum(each.values())
    return f"\nMinutes that this took, on two cores and beside other work: {parts}; {whole} in all.\n"


def own(record: Record) -> str:
    """Rules on models that were trained as their papers do."""
    from mue_edge.calibrate.report import comparison_page as page

    return page.own(record["figures"])


def modalities(record: Record) -> str:
    """Which modality may leave early."""
    from mue_edge.calibrate.report import comparison_page as page

    return page.modalities(record["figures"])


def signals(record: Record) -> str:
    """AUC by boundary."""
    from mue_edge.calibrate.report import comparison_page as page

    return page.signals(record["figures"])


def vocabularies(record: Record) -> str:
    """The best rules with the model's own head, and with a large one."""
    from mue_edge.calibrate.report import comparison_page as page

    own, large = record["figures"]["own"], record["figures"]["large"]
    words = large["projection"]["words"]
    heading = {"its own words, measured": own, f"{words:,} words, projected": large}
    return f"{page.projection(large)}\n{page.winners(heading)}"
