"""Measures the bundled model on all splits: `python -m tools.stickers.evidence`.

Writes `evidence/stickers.json` (commit, versions, command, figures by split and depth), puts the same
figures into MODEL_CARD.md, and draws the failures' contact sheet and the map of quality by depth.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

from mue_edge import models
from mue_edge.apps.stickers import model_folder
from mue_edge.apps.stickers.dataset import read
from mue_edge.apps.stickers.evaluation import caption
from mue_edge.calibrate.report import charts
from mue_edge.calibrate.training.caption_training import learner
from mue_edge.calibrate.training.depths import parse
from mue_edge.files import atomic_write, sha256
from tools.stickers import figures
from tools.stickers.gallery import sheet
from tools.stickers.tables import CARD, LABELS, ROOT, with_block

# The figures are stale when one of these has changed.
COVERED = (
    "apps/stickers/model/model.safetensors",
    "apps/stickers/model/config.json",
    "apps/stickers/evaluation.py",
    "tools/stickers/figures.py",
    "tools/stickers/splits.py",
    "calibrate/metrics/bootstrap.py",
    "calibrate/metrics/coco_metrics.py",
    "calibrate/metrics/corpus_scores.py",
    "calibrate/metrics/quality.py",
    "mue_edge/models/ofa/decoding/greedy.py",
)
COMMAND = "python -m tools.stickers.evidence"
DECODING = "greedy, fp32, fixed depth; reference: the CLDR name, lower case; clusters: emoji"


def commit() -> str:
    """Of the checkout that this file stands in; "unknown" elsewhere."""
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def header(name: str, command: str, covered: Sequence[str]) -> dict[str, Any]:
    """What an evidence file says first: what was run, where, and what it depends on."""
    return {
        "name": name,
        "date": date.today().isoformat(),
        "command": command,
        "commit": commit(),
        "covers": {path: sha256(ROOT / path)[:16] for path in covered},
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {package: version(package) for package in ("torch", "numpy", "resvg-py", "Pillow")},
        "decoding": DECODING,
    }


def write(out: Path, card: Path, block: str, content: dict[str, Any]) -> None:
    """The evidence file, and its block of the model card."""
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    atomic_write(card, with_block(card.read_text(encoding="utf-8"), block, content))


@click.command()
@click.option("--model", type=click.Path(path_type=Path), help="Another model folder.  [default: bundled]")
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "evidence" / "stickers.json")
@click.option("--card", type=click.Path(path_type=Path, exists=True), default=CARD, help="The page to fill.")
@click.option("--map", "picture", type=click.Path(path_type=Path), default=ROOT / "docs/quality-by-depth.svg")
@click.option("--limit", type=click.IntRange(2), help="Only so many pictures a split, to try it.")
@click.option("--threads", default=1, show_default=True)
def main(
    model: Path | None, cache: Path | None, out: Path, card: Path, picture: Path, limit: int | None, threads: int
) -> None:
    """Evaluate the bundled model at all depths and write the evidence, the card's figures and pictures."""
    torch.set_num_threads(threads)
    folder = model or model_folder()
    pupil = learner(folder, None)
    cells = parse(["all"], models.describe(pupil.model).depths)
    splits = {split: figures.Found(*caption(pupil, split, cells, cache=cache, limit=limit)) for split in figures.SPLITS}
    content = header("stickers", COMMAND, COVERED)
    content |= {"model_sha256": sha256(folder / "model.safetensors")} | figures.content(splits)
    write(out, card, "stickers-card", content)
    atomic_write(card.parent / "failures.webp", failures(splits["test_render"], cache))
    picture.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(picture, quality_map(content))
    for split, found in content["splits"].items():
        click.echo(f"{split}: exact match {found['exact_match']['mean']:.3f}")
    click.echo(f"written: {out}, {card}, {card.parent / 'failures.webp'}, {picture}")


def quality_map(content: dict[str, Any]) -> str:
    """The heat map of the union's main metric."""
    changes = content["changes"]
    values = {
        (cell["image_depth"], cell["decoder_depth"]): cell[changes["metric"]]
        for cell in content["by_depth"][changes["split"]]
    }
    return charts.heat_map(values, f"{LABELS[changes['metric']]} by depth, {changes['split']}")


def failures(found: figures.Found, cache: Path | None) -> bytes:
    """The contact sheet of the first wrong ones, on white as the model saw them."""
    data = read(cache)
    places = {record.id: i for i, record in enumerate(data.records)}
    tiles = []
    for ident, name, said in figures.examples(found, found.wrong()[: figures.EXAMPLES]):
        rgba = Image.fromarray(np.asarray(data.pixels[places[ident]]), "RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        tiles.append((Image.alpha_composite(white, rgba).convert("RGB"), name, said))
    return sheet(tiles)


if __name__ == "__main__":
    main()
