"""Measures the bundled model on all splits: `python -m mue_edge.apps.stickers.evidence`.

Writes `evidence/stickers.json` (commit, versions, command, figures by split and depth) and puts the
same figures into MODEL_CARD.md.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch

from mue_edge.apps.stickers import model_folder
from mue_edge.apps.stickers.evaluation import Evaluation, evaluate
from mue_edge.apps.stickers.recipe import Record
from mue_edge.apps.stickers.splits import toned
from mue_edge.files import atomic_write, sha256

SPLITS = ("val_render", "test_render", "test_comp", "test_vendor")
# (image layers, decoder layers) measured beside full depth, on test_render.
DEPTHS = ((6, 1), (6, 3), (3, 6), (3, 3), (1, 6))
EXAMPLES = 24
ROOT = Path(__file__).resolve().parents[2]
# The figures are stale when one of these has changed.
COVERED = (
    "apps/stickers/model/model.safetensors",
    "apps/stickers/model/config.json",
    "apps/stickers/evaluation.py",
    "apps/stickers/splits.py",
    "calibrate/quality.py",
    "mue_edge/models/ofa/greedy.py",
)
CARD = Path(__file__).parent / "MODEL_CARD.md"
BEGIN, END = "<!-- figures of evidence/stickers.json -->", "<!-- end of figures -->"
COMMAND = "python -m mue_edge.apps.stickers.evidence"


def figures(found: Evaluation) -> dict[str, Any]:
    """Samples, clusters and every metric with its standard error."""
    metrics = {
        name: {key: round(value, 4) for key, value in asdict(estimate).items()}
        for name, estimate in found.quality.metrics.items()
    }
    return {"samples": found.quality.samples, "clusters": found.quality.clusters} | metrics


def commit() -> str:
    """Of the checkout that this file stands in; "unknown" elsewhere."""
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("evidence") / "stickers.json")
@click.option("--threads", default=1, show_default=True)
def main(cache: Path | None, out: Path, threads: int) -> None:
    """Evaluate the bundled model and write the evidence file."""
    torch.set_num_threads(threads)
    folder = model_folder()
    splits: dict[str, dict[str, Any]] = {}
    sets: dict[str, float] = {}
    kinds: dict[str, float] = {}
    examples: list[list[str]] = []
    for split in SPLITS:
        found = evaluate(folder, split, cache=cache)
        splits[split] = figures(found)
        if split == "test_render":
            sets = exact_match_by(found, lambda record: record.set)
            kinds = exact_match_by(found, kind)
            examples = [[r.id, r.caption, caption] for r, caption in found.captions[:EXAMPLES]]
    depths = [
        {"image_depth": image, "decoder_depth": decoder}
        | figures(evaluate(folder, "test_render", cache=cache, image_depth=image, decoder_depth=decoder))
        for image, decoder in DEPTHS
    ]
    content = {
        "name": "stickers",
        "date": date.today().isoformat(),
        "command": COMMAND,
        "commit": commit(),
        "covers": {name: sha256(ROOT / name)[:16] for name in COVERED},
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "model_sha256": sha256(folder / "model.safetensors"),
        "versions": {name: version(name) for name in ("torch", "numpy", "resvg-py", "Pillow")},
        "decoding": "greedy, fp32, fixed depth; reference: the CLDR name, lower case; clusters: emoji",
        "splits": splits,
        "test_render_exact_match_by_set": sets,
        "test_render_exact_match_by_kind": kinds,
        "test_render_by_depth": depths,
        "test_render_examples": examples,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    atomic_write(CARD, with_figures(CARD.read_text(encoding="utf-8"), content))
    for split in SPLITS:
        click.echo(f"{split}: exact match {splits[split]['exact_match']['mean']:.3f}")
    click.echo(f"written: {out}, {CARD.name}")


def with_figures(card: str, content: dict[str, Any]) -> str:
    """The model card with the figures of an evidence file between its two markers."""
    head, rest = card.split(BEGIN)
    return f"{head}{BEGIN}\n{tables(content)}\n{END}{rest.split(END)[1]}"


def tables(content: dict[str, Any]) -> str:
    """Markdown of what the evidence holds: splits, sets, depths, examples."""
    names = ("exact_match", "exact_match_but_tone", "token_f1", "rouge_l")

    def cells(row: dict[str, Any]) -> str:
        return " | ".join(f"{row[name]['mean']:.3f} ± {row[name]['standard_error']:.3f}" for name in names)

    lines = [
        "",
        "| split | pictures | captions | exact match | right but for the tone | token F1 | ROUGE-L |",
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for split, row in content["splits"].items():
        lines.append(f"| {split} | {row['samples']} | {row['clusters']} | {cells(row)} |")
    for what in ("kind", "set"):
        lines += ["", f"| test_render by {what} | exact match |", "|---|---|"]
        lines += [f"| {k} | {v:.3f} |" for k, v in content[f"test_render_exact_match_by_{what}"].items()]
    lines += [
        "",
        "| image layers | decoder layers | exact match | right but for the tone | token F1 | ROUGE-L |",
    ]
    lines.append("|---|---|---|---|---|---|")
    full = {"image_depth": "all", "decoder_depth": "all"} | content["splits"]["test_render"]
    for row in [full, *content["test_render_by_depth"]]:
        lines.append(f"| {row['image_depth']} | {row['decoder_depth']} | {cells(row)} |")
    lines += ["", "| picture | called | model says |", "|---|---|---|"]
    lines += [
        f"| {ident} | {reference} | {'the same' if caption == reference else caption} |"
        for ident, reference, caption in content["test_render_examples"]
    ]
    return "\n".join([*lines, ""])


def kind(record: Record) -> str:
    """What a picture shows: a person in a skin tone, a flag, or anything else."""
    if toned(record.emoji):
        return "person with a skin tone"
    return "flag" if record.caption.startswith("flag: ") else "anything else"


def exact_match_by(found: Evaluation, group: Callable[[Record], str]) -> dict[str, float]:
    """Exact match within each group of pictures."""
    right: dict[str, list[bool]] = {}
    for record, caption in found.captions:
        right.setdefault(group(record), []).append(caption == record.caption)
    return {name: round(sum(values) / len(values), 4) for name, values in sorted(right.items())}


if __name__ == "__main__":
    main()
