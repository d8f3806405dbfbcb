"""Markdown of what the stickers' evidence holds, for the model card. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mue_edge.calibrate.report.pages import table
from tools.pages import fill

ROOT = Path(__file__).resolve().parents[2]
CARD = ROOT / "apps" / "stickers" / "MODEL_CARD.md"
NOT_MEASURED = "\n*Not measured yet.*\n\n"
LABELS = {
    "exact_match": "exact match",
    "exact_match_but_tone": "right but for the tone",
    "bleu_4": "BLEU-4",
    "meteor": "METEOR",
    "cider_d": "CIDEr-D",
    "rouge_l": "ROUGE-L",
    "spice": "SPICE",
}


def interval(value: dict[str, Any], digits: int = 3, scale: float = 1.0, sign: str = "") -> str:
    """As in "0.586 [0.550, 0.620]"; `scale` 100 and `sign` "+" for changes in per cent."""
    parts = [value[key] for key in ("mean", "low", "high")]
    mean, low, high = ("–" if v is None else f"{v * scale:{sign}.{digits}f}" for v in parts)
    return mean if parts[1] is None else f"{mean} [{low}, {high}]"


def stickers(content: dict[str, Any]) -> str:
    """Figures of the bundled model: splits, groups, depths, examples."""
    names = [n for n in LABELS if n in content["splits"]["test_render"]]
    rows = [
        [split, str(row["samples"]), str(row["clusters"]), *(interval(row[n]) for n in names)]
        for split, row in content["splits"].items()
    ]
    parts = [table(["split", "pictures", "captions", *(LABELS[n] for n in names)], rows)]
    for what in ("kind", "set"):
        groups = content[f"test_render_exact_match_by_{what}"].items()
        parts.append(table([f"test_render by {what}", "exact match"], [[k, f"{v:.3f}"] for k, v in groups]))
    parts.append(changes(content["changes"], content["layers"]))
    parts += [grid(split, cells, n) for split, cells in content["by_depth"].items() for n in LABELS if n in cells[0]]
    parts.append(examples("picture", content["test_render_examples"]))
    parts.append(
        "The first wrong ones of the same order, also [as pictures](failures.webp):\n\n"
        + examples("wrong", content["test_render_failures"])
    )
    return "\n" + "\n".join(parts) + "\n"


def changes(found: dict[str, Any], layers: list[int]) -> str:
    """What leaving early costs, paired."""
    head = [
        "encoder layers",
        "decoder layers",
        f"{LABELS[found['metric']]} on {found['split']} against {layers[0]} and {layers[1]}",
    ]
    rows = [[str(c["image_depth"]), str(c["decoder_depth"]), f"{interval(c, 1, 100, '+')} %"] for c in found["cells"]]
    return table(head, rows)


def grid(split: str, cells: list[dict[str, Any]], metric: str) -> str:
    """Encoder layers downwards, decoder layers across."""
    columns = sorted({c["decoder_depth"] for c in cells})
    values = {(c["image_depth"], c["decoder_depth"]): f"{c[metric]:.3f}" for c in cells}
    rows = [[str(r), *(values[r, c] for c in columns)] for r in sorted({r for r, _ in values})]
    return table([f"{split}, {LABELS[metric]}: encoder \\ decoder layers", *map(str, columns)], rows)


def examples(title: str, rows: list[list[str]]) -> str:
    return table(
        [title, "called", "model says"], [[a, name, "the same" if said == name else said] for a, name, said in rows]
    )


def comparison(content: dict[str, Any]) -> str:
    """The shared network against one trained for one depth only."""
    arms = [
        [name, str(arm["decoder_layers"]), str(arm.get("step", "–")), f"{arm.get('seconds', 0) / 60:.0f}"]
        for name, arm in content["arms"].items()
    ]
    training = table(["network", "decoder layers", "steps", "minutes"], arms)
    return f"\n{questions(content['questions'])}\n{training}\n"


def questions(asked: list[dict[str, Any]]) -> str:
    """Both networks on each split, the paired change, and whether it stays within its limit."""
    rows = []
    for question in asked:
        for split, found in question["splits"].items():
            limit = f"at least {-100 * question['limit']:.0f} %: {'holds' if question['holds'] else 'missed'}"
            verdict = limit if split == question["holds_on"] else ""
            rows.append([question["what"], split, *against(found), verdict])
    head = [
        "question", "split", "exact match, shared", "exact match, alone",
        "CIDEr-D, shared", "CIDEr-D, alone", "CIDEr-D, shared against alone", "asked for",
    ]  # fmt: skip
    return table(head, rows)


def against(found: dict[str, Any]) -> list[str]:
    """Exact match and CIDEr-D of both, and the change of CIDEr-D."""
    both = [interval(found[name][arm]) for name in ("exact_match", "cider_d") for arm in ("shared", "alone")]
    return [*both, f"{interval(found['cider_d']['change'], 1, 100, '+')} %"]


def decoders(content: dict[str, Any]) -> str:
    """Decoders trained on the frozen encoder: both questions, each seed's answers, every run's figures."""
    seeds = [
        [asked["what"], str(seed), *against(found)]
        for asked in content["questions"]
        for seed, found in enumerate(asked["by_seed"])
    ]
    head = [
        "one seed alone", "seed", "exact match, shared", "exact match, alone",
        "CIDEr-D, shared", "CIDEr-D, alone", "CIDEr-D, shared against alone",
    ]  # fmt: skip
    runs = []
    for run in content["runs"]:
        points = run["learning_curve"]["val_render exact match"]
        shown = ", ".join(f"{step}: {value:.3f}" for step, value in points)
        runs.append([run["name"], str(run["seed"]), str(run["decoder_layers"]), shown])
    bundled = [
        [str(row["decoder_depth"]), interval(row["exact_match"]), interval(row["cider_d"])]
        for row in content["bundled"]
    ]
    split = content["questions"][0]["holds_on"]
    parts = [
        budget(content["training"]),
        questions(content["questions"]),
        table(head, seeds),
        table(["run", "seed", "decoder layers", "val_render exact match by step"], runs),
        table(["bundled decoder, layers", f"exact match on {split}", f"CIDEr-D on {split}"], bundled),
    ]
    return "\n" + "\n".join(parts) + "\n"


def budget(training: dict[str, Any]) -> str:
    """What every run of the decoders had."""
    steps, batch, views = (training[key] for key in ("steps", "batch", "views"))
    seen = f"{steps} steps of {batch} pictures ({steps * batch / 1000:.0f} thousand)"
    return f"Every run: {seen}, {views} augmented view{'s' * (views > 1)} of each training picture.\n"


def study(content: dict[str, Any]) -> str:
    """The training study: what each arm is, and its figures on val_render."""
    rows = []
    for arm in content["arms"]:
        found = arm["figures"]
        shown = [interval(found["full"]["exact_match"]), interval(found["full"]["cider_d"])]
        shown += [f"{found[cell]['cider_d']['mean']:.3f}" for cell in ("half_decoder", "half_encoder")]
        size = f"{arm['model_bytes'] / 1e6:.1f}"
        seen = f"{arm['pictures_seen'] / 1000:.0f}"
        minutes = f"{arm['seconds'] / 60:.0f}"
        rows.append([arm["name"], f"`{arm['arguments']}`", arm["commit"][:7], seen, minutes, size, *shown])
    head = ["arm", "arguments", "commit", "thousand pictures", "minutes", "MB", "exact match", "CIDEr-D"]
    return table([*head, "half decoder", "half encoder"], rows)


# Block of the card → (evidence file, its Markdown).
BLOCKS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "stickers-card": ("stickers", stickers),
    "stickers-comparison": ("stickers-comparison", comparison),
    "stickers-decoders": ("stickers-decoders", decoders),
    "stickers-study": ("stickers-study", study),
}


def block(name: str, folder: Path = ROOT / "evidence") -> str:
    """A block as its evidence file has it."""
    file, shown = BLOCKS[name]
    path = folder / f"{file}.json"
    return shown(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else NOT_MEASURED


def with_block(card: str, name: str, content: dict[str, Any]) -> str:
    """The card with one block from an evidence file's content."""
    return fill(card, {name: lambda: BLOCKS[name][1](content)})
