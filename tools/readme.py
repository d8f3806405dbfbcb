"""Writes the figures of README.md and the docs from evidence/: `python tools/readme.py`.

A block stands between `<!-- evidence: NAME -->` and `<!-- /evidence -->`. A test compares every
block with what the evidence says, so that no page can show a figure that was not measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mue_edge.apps.stickers import tables
from mue_edge.calibrate.pages import fill, table

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    ROOT / "README.md",
    ROOT / "apps" / "stickers" / "MODEL_CARD.md",
    *sorted((ROOT / "docs").glob("*.md")),
)
NOT_MEASURED = "*Not measured yet: `make evidence`.*\n"


def read(name: str) -> dict[str, Any] | None:
    """An evidence file, or None if it was not made."""
    path = ROOT / "evidence" / f"{name}.json"
    if not path.is_file():
        return None
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def source(*records: dict[str, Any]) -> str:
    """Where the figures come from, in one line."""
    names = ", ".join(f"`evidence/{r['name']}.json`" for r in records)
    first = records[0]
    commits = sorted({r["commit"][:10] + " and later changes" * r["uncommitted_changes"] for r in records})
    return f"\nFrom {names} ({first['date']}, commit {', '.join(commits)}, {first['system']}).\n"


def loop() -> str:
    """The loop rung: forced replay and free run against the torch model."""
    words = (
        "The exported `stickers` bundle on ONNX Runtime against the torch model, on held-out pictures, "
        "fp32. Replay forces the model's exits and compares scores and tokens; the free run decides "
        "by itself.\n\n"
    )
    return loop_table("beam", words, {"loop-beam1": "1", "loop-beam5": "5"})


def executorch_loop() -> str:
    """The same through ExecuTorch's runtime."""
    words = "The `stickers` bundles on ExecuTorch's own runtime against the torch model, fp32, greedy.\n\n"
    names = {f"executorch-loop-{target}": f"`{target}`" for target in ("android", "embedded-linux")}
    return loop_table("target", words, names)


def loop_table(first: str, words: str, names: dict[str, str]) -> str:
    """A row a policy of each record that there is; `names` say what the first column shows."""
    records = [r for r in map(read, names) if r]
    rows = []
    for record in records:
        for name, f in record["figures"].items():
            n = f["pictures"]
            rows.append(
                [
                    names[record["name"]], "full depth" if name == "full" else "exits",
                    f"{f['mean_image_layers']:.2f} / {f['mean_layers']:.2f}",
                    f"{f['score_error_p99']:.1e} / {f['score_error_max']:.1e}",
                    f"{f['replay_same_tokens']} of {n}", f"{f['free_same_captions']} of {n}",
                    holds(f["holds"]),
                ]
            )  # fmt: skip
    if not rows:
        return NOT_MEASURED
    head = [
        first, "policy", "image / decoder layers run", "score error p99 / max", "replay: tokens equal",
        "free run: captions equal", "criteria hold",
    ]  # fmt: skip
    return words + table(head, rows) + source(*records)


def executorch_int8() -> str:
    """int8 against fp32, each with thresholds of its own scores."""
    record = read("executorch-int8")
    if record is None:
        return NOT_MEASURED
    f = record["figures"]
    size = ", ".join(f"{name} {f[name]['program_bytes'] / 1e6:.1f} MB" for name in ("fp32", "int8"))
    return int8_table(f) + f"Size of the program: {size}.\n" + source(record)


def int8_table(f: dict[str, Any]) -> str:
    """Criterion (c): both precisions with thresholds of their own scores."""
    rows = [
        [
            name, f"{f[name]['image_layers']:.2f} / {f[name]['decoder_layers']:.2f}",
            f"{f[name]['cider_d']:.3f}", f"{f[name]['exact_match']:.3f}",
        ]
        for name in ("fp32", "int8")
    ]  # fmt: skip
    head = ["precision", "image / decoder layers run", "CIDEr-D", "exact match"]
    verdict = "holds" if f["holds"] else "does **not** hold"
    words = f"\nCIDEr-D within 1 % and mean layers within 5 % of fp32's: {verdict}, on "
    return table(head, rows) + words + f"{f['int8']['pictures']} pictures.\n"


def executorch_java() -> str:
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


def web() -> str:
    """The web app in Chromium against the host."""
    record = read("web")
    if record is None:
        return NOT_MEASURED
    f = record["figures"]
    kinds = (("small", "small pictures"), ("large", "JPEGs of 4.3 megapixels, turned by EXIF"))
    rows = [
        [words, policy, f"{n['captions']} of {n['pictures']}", f"{n['exits']} of {n['pictures']}"]
        for kind, words in kinds
        for policy, n in f[kind].items()
    ]
    n = f["offline"]
    whole = f"{n['captions']} of {n['pictures']}", f"{n['exits']} of {n['pictures']}"
    rows.append(["small pictures, without a network", "full", *whole])
    head = ["pictures", "policy", "captions equal to the host's", "layers run equal, word by word"]
    size, first = f["site"], f["first_visit"]
    memory = ", ".join(f"{m['renderers_mb']:.0f} MB after {m['captions']}" for m in f["memory"])
    words = (
        f"\nFirst load: {size['bytes'] / 1e6:.1f} MB, {size['gzip_bytes'] / 1e6:.1f} MB from a server that "
        f"compresses. On the machine itself, which was busy: ready after {first['ready_s']:.1f} s, first "
        f"caption after {first['first_caption_s']:.1f} s; from the cache, without a network, ready after "
        f"{n['ready_s']:.1f} s. "
        f"Memory of Chromium's renderers, garbage collected, over further captions: {memory}. "
        f"Chromium {f['chromium']}.\n"
    )
    return table(head, rows) + words + source(record)


def executorch_vulkan() -> str:
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


def executorch_base() -> str:
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


def executorch_bench() -> str:
    """Segments, one graph a stack, and the host's bundle."""
    record = read("executorch-bench")
    return NOT_MEASURED if record is None else bench_table(record["figures"]) + source(record)


def bench() -> str:
    """What exits save, and what segments cost."""
    records = [r for r in map(read, ("bench", "bench-ofa-tiny")) if r]
    if not records:
        return NOT_MEASURED
    return "\n".join(bench_table(record["figures"]) for record in records) + source(*records)


def bench_table(figures: dict[str, Any]) -> str:
    """One model: full depth, its twin, one graph a stack, and each policy's exits."""
    first = next(iter(figures.values()))
    labels = {name: SYSTEMS.get(name, f"`{name}`") for name in first["systems"] if name != "exits"}
    rows = [bench_row(label, first["systems"][name], first) for name, label in labels.items()]
    for f in figures.values():
        rows.append(
            bench_row(f"exits: {f['policy_origin'].removesuffix(', given')}", f["systems"]["exits"], f)
        )
    words = (
        f"`{first['bundle']}` on `{first['target']}`, {first['precision']}, greedy, {first['pictures']} "
        f"pictures, {first['rounds']} rounds:\n\n"
    )
    head = ["system", "layers run", "calls", "captions as at full depth", "CPU time / full depth"]
    return words + table(head, rows)


SYSTEMS = {
    "full depth": "segments, full depth",
    "twin": "the same again (A/A control)",
    "monolithic": "one graph a stack, no exits",
}


def bench_row(label: str, s: dict[str, Any], record: dict[str, Any]) -> list[str]:
    layers = ", ".join(f"{stack} {value:.2f}" for stack, value in s["layers"].items())
    r = s["cpu_ratio"]
    ratio = "1" if label == SYSTEMS["full depth"] else f"{r['median']:.3f} [{r['low']:.3f}–{r['high']:.3f}]"
    return [label, layers, f"{s['calls']:.1f}", f"{s['same_captions']} of {record['pictures']}", ratio]


def stickers() -> str:
    """The bundled model's quality by split."""
    record = read("stickers")
    if record is None:
        return NOT_MEASURED
    asks = {
        "val_render": "known caption, unseen drawing (used for choices)",
        "test_render": "known caption, unseen drawing",
        "test_comp": "unseen combination of person and skin tone",
        "test_vendor": "an artist never seen",
    }
    rows = []
    for split, f in record["splits"].items():
        if split in asks:
            shown = (tables.interval(f[key]) for key in ("exact_match", "exact_match_but_tone"))
            rows.append([split, asks[split], str(f["samples"]), *shown])
    head = ["split", "what it asks", "pictures", "exact match", "right but for the skin tone"]
    words = "\nFrom `evidence/stickers.json`; in brackets 90 % intervals (bootstrap by emoji).\n"
    through = read("policies")
    if through is not None:
        each = ", ".join(f"{name} {f['exact_match']:.3f}" for name, f in through["figures"].items())
        words += f"Exact match on test_render through the exported bundle, by policy: {each}"
        words += " (`evidence/policies.json`).\n"
    return table(head, rows) + words


def calibrated() -> str:
    """What `mue-edge calibrate` said for several budgets."""
    record = read("calibrate")
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
    head += ["live, of full depth", "CIDEr-D kept, tuning", "certified < 3 %", "drop below, at 90 %"]
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


QUALITIES = {"cider_d": 2, "exact_match": 3}  # digits


def holds(value: bool) -> str:
    """A criterion's outcome; a failure is meant to be seen."""
    return "yes" if value else "**no**"


FAMILIES = {"fixed": "fixed depths", "mue": "MuE's own rule", "best": "best candidate"}


def saved(name: str) -> str:
    """Quality kept at −30 … −70 % of full depth's time, on pictures that had no part in the choice."""
    record = read(name)
    if record is None:
        return NOT_MEASURED
    f = record["figures"]
    rows: list[list[str]] = []
    for share in sorted({row["share"] for row in f["rows"]}):
        cells = [f"−{share:.0%}"]
        for family in FAMILIES:
            row = next((r for r in f["rows"] if (r["share"], r["family"]) == (share, family)), None)
            cells += ["–", "–"] if row is None else saving(row)
        rows.append(cells)
    head = [
        "mean time",
        *(cell for title in FAMILIES.values() for cell in (title, "CIDEr-D kept; live time")),
    ]
    twin = f["twin"]
    words = (
        f"Chosen on {f['tune']['pictures']} tuning pictures by predicted mean time, judged on "
        f"{f['held']['pictures']} others (test_render and test_comp, {f['held']['clusters']} clusters; in "
        "brackets 90 % intervals). Live: CPU time over full depth's, ratio of sums, "
        f"{f['timed']} pictures in turns; full depth's own twin: {twin['of_sums']:.3f}.\n\n"
    )
    if "base" in f:
        base, ends = f["base"], f["base"]["ends"]
        words += (
            f"The base: {base['height']} px, {base['precision']}, a segment ending after layers "
            f"{', '.join(map(str, ends['decoder']))} of each stack; the fastest full depth of "
            f"{len(f['plans'])} plans that kept 99 % on {f['subset']} tuning pictures. Its own CIDEr-D on "
            f"the others is {f['held']['cider_d_base']:.2f}.\n\n"
        )
    return words + table(head, rows) + source(record)


def saving(row: dict[str, Any]) -> list[str]:
    """Policy (and its plan where plans differ), quality kept, and live time."""
    change, plan = row["change_held"], row["plan"]
    kept = ", ".join(f"{100 * (1 + change[key]):.1f}" for key in ("low", "high"))
    where = f" at {plan['height']} px, {plan['precision']}" if "precision" in plan else ""
    shown = f"`{row['policy'].get('name', 'full')}`{where}"
    return [shown, f"{100 * (1 + change['mean']):.1f} % [{kept}]; {row['live']['of_sums']:.2f}"]


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


def iphone() -> str:
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


def iphone_base() -> str:
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


BLOCKS: dict[str, Callable[[], str]] = {
    "savings-exits": partial(saved, "savings-exits"),
    "savings-plans": partial(saved, "savings-plans"),
    "loop": loop,
    "bench": bench,
    "stickers": stickers,
    "calibrate": calibrated,
    "certificate": certificate,
    "deadline": deadline,
    "iphone": iphone,
    "iphone-ofa-base": iphone_base,
    "executorch-loop": executorch_loop,
    "executorch-int8": executorch_int8,
    "executorch-base": executorch_base,
    "executorch-bench": executorch_bench,
    "executorch-java": executorch_java,
    "web": web,
    "executorch-vulkan": executorch_vulkan,
    "jetson": jetson,
    **{name: partial(tables.block, name) for name in tables.BLOCKS},
}


def rendered(page: str) -> str:
    """The page with every block as the evidence has it."""
    return fill(page, BLOCKS)


def main() -> None:
    for path in PAGES:
        if path.is_file():
            path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
