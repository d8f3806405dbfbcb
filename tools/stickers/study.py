"""The training study as one command that may be stopped: `python -m tools.stickers.study`.

Trains each arm of the table below to its end, then `--collect` measures those that are finished on
val_render, and on nothing else: what is chosen here is not chosen on a test. It writes
`evidence/stickers-study.json` and the learning curves `docs/stickers-learning.svg`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import click
import torch

from mue_edge import models
from mue_edge.apps.stickers.evaluation import STICKER_SCORES, caption
from mue_edge.calibrate.report.charts import lines
from mue_edge.calibrate.training.caption_training import learner
from mue_edge.calibrate.training.depths import judge
from mue_edge.errors import InputFileError, MueEdgeError, UsageError
from mue_edge.files import atomic_write, sha256
from mue_edge.models.family import Depths
from tools.stickers import train
from tools.stickers.evidence import commit

SPLIT = "val_render"
COMMAND = "python -m tools.stickers.study"
EVIDENCE, CHART = Path("evidence") / "stickers-study.json", Path("docs") / "stickers-learning.svg"
POINTS = 20  # of a learning curve
VAL = f"{SPLIT} exact match"  # as the training's log calls it
# Measured to be the fastest on CPUs with glibc: a step's large buffers are kept and lie in huge pages.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
ROOT = Path(__file__).resolve().parents[2]
# The figures are stale when one of these has changed.
COVERED = (
    "tools/stickers/train.py",
    "tools/stickers/batches.py",
    "apps/stickers/evaluation.py",
    "calibrate/data/augment.py",
    "calibrate/training/finetune.py",
    "tools/stickers/objective.py",
)


@dataclass(frozen=True)
class Arm:
    """One training run; `arguments` are those of `python -m tools.stickers.train`."""

    name: str
    purpose: Literal["search", "shipped", "comparison"]
    arguments: str

    def options(self) -> dict[str, Any]:
        """The training command's options, defaults included. Raises click's errors for wrong ones."""
        return train.main.make_context(self.name, [*self.arguments.split(), "--out", "-"]).params


_SEARCH = "--steps 1400 --batch 48 --rate 1.5e-3"
_SHIPPED = "--steps 5041 --batch 48 --rate 1.5e-3 --width 160 --trunk 1 2 3"
ARMS = (
    Arm("s192", "search", f"{_SEARCH} --width 192 --trunk 1 2 2"),
    Arm("s128", "search", f"{_SEARCH} --width 128 --trunk 1 2 3"),
    Arm("wide", "search", "--steps 5000 --batch 48 --rate 1.5e-3 --width 192 --trunk 1 2 2"),
    Arm("stickers", "shipped", _SHIPPED),
    Arm("one-layer", "comparison", f"{_SHIPPED} --decoder-layers 1"),
    Arm("last-layer", "comparison", f"{_SHIPPED} --last-layer-only"),
)


def log_of(folder: Path) -> list[dict[str, float]]:
    """The lines of a run's log so far, but a last one that a kill left unfinished."""
    path = folder / "log.jsonl"
    text = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in text if line.endswith("}")]


def finished(folder: Path) -> bool:
    """Whether the model of the schedule's end has been written and measured."""
    return any(VAL in line and line["progress"] >= 1 for line in log_of(folder))


def run(arm: Arm, out: Path, processes: int, cache: Path | None) -> None:
    """Train an arm from where it stands.

    Raises UsageError when its folder was begun with other arguments, MueEdgeError when it stops early.
    """
    folder = out / arm.name
    claim(folder, {"arguments": arm.arguments, "processes": processes})
    done = subprocess.run(command(arm, folder, processes, cache), env=os.environ | ENVIRONMENT, check=False)
    if done.returncode:
        raise MueEdgeError(f"{arm.name} stopped (exit code {done.returncode}); {COMMAND} goes on with it")
    if not finished(folder):
        raise MueEdgeError(f"{folder} is trained but not measured at its end; remove it to begin it again")


def claim(folder: Path, words: dict[str, Any]) -> None:
    """Note in a run's folder what it is begun with.

    Raises UsageError when it was begun with something else, or holds other things.
    """
    begun = folder / "arm.json"
    if begun.is_file():
        there = json.loads(begun.read_text(encoding="utf-8"))
        if {key: there.get(key) for key in words} != words:
            raise UsageError(f"{folder} was begun with {there}, not {words}; choose another folder")
    elif folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} holds no run that was begun here (no arm.json); choose another folder")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(begun, json.dumps(words | {"commit": commit()}, indent=1) + "\n")


def command(arm: Arm, folder: Path, processes: int, cache: Path | None) -> list[str]:
    """What trains an arm: one process, or several that share each step."""
    several = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    start = [sys.executable, "-m", *(several if processes > 1 else []), train.__name__]
    place = ["--out", str(folder), *(["--cache", str(cache)] if cache else [])]
    return [*start, *place, *arm.arguments.split()]


def cells(layers: Depths) -> dict[str, Depths]:
    """The depths that are measured, by name."""
    image, decoder = layers
    return {
        "full": (image, decoder),
        "half_decoder": (image, max(1, decoder // 2)),
        "one_decoder_layer": (image, 1),
        "half_encoder": (max(1, image // 2), decoder),
        "one_encoder_layer": (1, decoder),
    }


def figures(model: Path, cache: Path | None) -> dict[str, dict[str, Any]]:
    """Exact match (also but for the tone) and CIDEr-D of a model by depths, with intervals."""
    pupil = learner(model, None)
    depths = cells(models.describe(pupil.model).depths)
    _, captioned = caption(pupil, SPLIT, list(dict.fromkeys(depths.values())), cache=cache)
    measured = judge(captioned, scores=STICKER_SCORES, coco=("cider_d",))
    shown: dict[str, dict[str, Any]] = {}
    for name, cell in depths.items():
        metrics = measured.quality(cell).metrics
        shown[name] = {"image_depth": cell[0], "decoder_depth": cell[1]} | {
            metric: {key: round(value, 4) for key, value in asdict(metrics[metric]).items()}
            for metric in ("exact_match", "exact_match_but_tone", "cider_d")
            if metric in metrics
        }
    return shown


def curve(log: list[dict[str, float]], key: str, points: int = POINTS) -> list[tuple[int, float]]:
    """(step, mean of `key` since the point before) of a log, thinned to at most so many points."""
    known = [(int(line["step"]), line[key]) for line in log if key in line]
    size = -(-len(known) // points) or 1
    parts = [known[i : i + size] for i in range(0, len(known), size)]
    return [(part[-1][0], round(sum(value for _, value in part) / len(part), 4)) for part in parts]


def measured(arm: Arm, folder: Path, cache: Path | None) -> dict[str, Any]:
    """What the evidence says of a finished arm."""
    begun, log = json.loads((folder / "arm.json").read_text(encoding="utf-8")), log_of(folder)
    steps = int(log[-1]["step"])
    return {
        "name": arm.name,
        "purpose": arm.purpose,
        **begun,
        "steps": steps,
        "pictures_seen": steps * arm.options()["batch"] * begun["processes"],
        "seconds": log[-1]["seconds"],
        "model_bytes": (folder / "model" / "model.safetensors").stat().st_size,
        "model_sha256": sha256(folder / "model" / "model.safetensors"),
        "figures": figures(folder / "model", cache),
        # Each checkpoint's figure as it was: a mean over checkpoints would be of no model.
        "learning_curve": {"loss": curve(log, "loss"), VAL: curve(log, VAL, len(log))},
    }


def collect(arms: list[Arm], out: Path, cache: Path | None) -> None:
    """Measure the finished arms and write evidence and chart. Raises InputFileError without any."""
    ready = [arm for arm in arms if finished(out / arm.name)]
    if not ready:
        raise InputFileError(f"{out} holds no finished arm of {', '.join(a.name for a in arms)}: {COMMAND}")
    found = [measured(arm, out / arm.name, cache) for arm in ready]
    content = {
        "name": EVIDENCE.stem,
        "date": date.today().isoformat(),
        "command": f"{COMMAND} --collect",
        "commit": commit(),
        "covers": {name: sha256(ROOT / name)[:16] for name in COVERED},
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("torch", "numpy", "Pillow")},
        "split": SPLIT,
        "decoding": "greedy, fp32, fixed depth; reference: the CLDR name, lower case; clusters: emoji",
        "arms": found,
    }
    for path in (EVIDENCE, CHART):
        path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(EVIDENCE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    atomic_write(CHART, chart(found))
    for entry in found:
        full = entry["figures"]["full"]["exact_match"]
        click.echo(f"{entry['name']}: exact match {full['mean']:.3f} ± {full['standard_error']:.3f} on {SPLIT}")
    left = [arm.name for arm in arms if arm not in ready]
    click.echo(f"written: {EVIDENCE}, {CHART}" + (f"; not finished: {', '.join(left)}" if left else ""))


def chart(arms: list[dict[str, Any]]) -> str:
    """Exact match on val_render by pictures seen: unlike the losses, one scale for all arms."""
    curves = {}
    for arm in arms:
        thousands = arm["pictures_seen"] / arm["steps"] / 1000
        curves[arm["name"]] = [(step * thousands, value) for step, value in arm["learning_curve"][VAL]]
    return lines(curves, "thousand pictures seen", VAL)


@click.command()
@click.option("--only", multiple=True, type=click.Choice([arm.name for arm in ARMS]), help="Of the arms.")
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True, help="An arm's.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out") / "study", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
@click.option("--collect", "collecting", is_flag=True, help="Train nothing: measure the finished arms.")
@click.option("--threads", default=1, show_default=True, help="Of --collect.")
def main(only: tuple[str, ...], processes: int, out: Path, cache: Path | None, collecting: bool, threads: int) -> None:
    """Train the study's arms one after another, or go on; then measure them with --collect."""
    arms = [arm for arm in ARMS if not only or arm.name in only]
    if collecting:
        torch.set_num_threads(threads)
        collect(arms, out, cache)
        return
    for arm in arms:
        if finished(out / arm.name):
            click.echo(f"{arm.name}: finished")
            continue
        click.echo(f"{arm.name} ({arm.purpose}): {arm.arguments}")
        run(arm, out, processes, cache)
    click.echo(f"next: {COMMAND} --collect")


if __name__ == "__main__":
    main()
