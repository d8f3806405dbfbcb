"""`mue-edge evaluate`: caption quality of a model on a data set, by encoder and decoder depth."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from mue_edge.completion import MODELS
from mue_edge.errors import UsageError, missing_extra
from mue_edge.option_set import Existing, NewFile, check_there
from mue_edge.pixels_option import max_pixels_option

if TYPE_CHECKING:
    from mue_edge.calibrate.metrics.bootstrap import Estimate
    from mue_edge.calibrate.metrics.quality import Score
    from mue_edge.calibrate.training.depths import ByDepth, Captioned
    from mue_edge.models.family import Depths

# Of these, the first one measured is drawn, and compared with the deepest pair of depths.
_MAIN = ("cider_d", "exact_match")


@dataclass(frozen=True)
class _Options:
    """The command's options, by their names."""

    model: str
    data: str
    kind: str | None
    images: Path | None
    skip_bad: bool
    split: str
    references: Literal["first", "all"]
    cache: Path | None
    limit: int | None
    depths: tuple[str, ...]
    encoder_depth: int | None
    decoder_depth: int | None
    confidence: float
    coco: bool
    heatmap: Path | None
    metric: str | None
    show: int
    as_json: bool


@click.command("evaluate")
@click.argument("model", shell_complete=MODELS, default="stickers")
@click.option("--data", default="stickers", show_default=True, help="stickers, or pictures with captions.")
@click.option("--format", "kind", help="folder, csv, tsv, jsonl, coco or ofa.  [default: recognised]")
@click.option("--images", type=Existing(), help="Where pictures are.  [default: the table's]")
@click.option("--skip-bad", is_flag=True, help="Leave out pictures that are missing or damaged.")
@click.option("--split", default="val_render", show_default=True, help="Of stickers: a part, or A+B.")
@click.option("--references", type=click.Choice(["first", "all"]), default="first", show_default=True,
              help="Of stickers: the CLDR name, or all that people call them.")  # fmt: skip
@click.option("--cache", type=click.Path(path_type=Path), help="Of stickers: where the recipe wrote them.")
@click.option("--limit", type=click.IntRange(1), help="Only so many pictures.")
@click.option("--depths", multiple=True, metavar="all|K,L", help="Encoder, decoder layers; may be repeated.")
@click.option("--encoder-depth", type=click.IntRange(1), help="Encoder layers.  [default: all]")
@click.option("--decoder-depth", type=click.IntRange(1), help="Decoder layers.  [default: all]")
@click.option("--confidence", type=click.FloatRange(0, 1, True, True), default=0.9, show_default=True,
              help="Of the intervals.")  # fmt: skip
@click.option("--coco/--no-coco", default=True, help="BLEU-4, METEOR, ROUGE-L, CIDEr-D (extra 'evaluate').")
@click.option("--heatmap", type=NewFile(), help="Draw a metric by depths.")
@click.option("--metric", help="The one to draw.  [default: cider_d, else exact_match]")
@click.option("--show", type=click.IntRange(0), default=0, help="Print so many captions beside references.")
@max_pixels_option
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON.")
def command(**options: Any) -> None:
    """Caption a data set with MODEL (a model folder, or `stickers`), greedily, and compare.

    DATA is `stickers`, or a folder of pictures with a table in it, a CSV, TSV or JSON-lines table with
    image and caption, COCO's captions JSON, or OFA's TSV. Intervals count what is drawn together (all
    pictures of an emoji) once. Of several references the best one counts; COCO's metrics take them as
    COCO does. METEOR, and words cut as COCO's are, need Java.
    """
    chosen = _Options(**options)
    if chosen.depths and (chosen.encoder_depth or chosen.decoder_depth):
        raise UsageError("--depths names both depths: leave out --encoder-depth and --decoder-depth")
    from mue_edge.apps.catalogue import resolve_model

    resolve_model(chosen.model)  # mistakes first: loading torch takes seconds
    if chosen.data != "stickers":
        check_there(Path(chosen.data), "--data")
    try:
        captioned, scores, notes = (_stickers if chosen.data == "stickers" else _examples)(chosen)
    except ModuleNotFoundError as problem:
        raise missing_extra(problem.name or "torch", "train") from problem
    from mue_edge.calibrate.metrics.coco_metrics import METRICS
    from mue_edge.calibrate.training.depths import judge

    found = judge(captioned, scores=scores, coco=METRICS if chosen.coco else ())
    for note in (*notes, *found.notes):
        click.echo(f"note: {note}", err=True)
    if chosen.heatmap is not None:
        _draw(chosen, chosen.heatmap, found)
    if chosen.as_json:
        click.echo(json.dumps(_record(chosen, found)))
        return
    _print(chosen, found)
    for sample in captioned[: chosen.show]:
        caption, expected = sample.captions[found.deepest], " | ".join(sample.references)
        sign = "=" if caption in sample.references else "≠"
        click.echo(f"  {sign} {sample.id}: {caption!r} ({expected!r})")


# Captions, the scores beside COCO's (None: the general ones), and notes.
_Found = tuple[list["Captioned"], "Mapping[str, Score] | None", list[str]]


def _cells(o: _Options, layers: Depths) -> list[Depths]:
    from mue_edge.calibrate.training.depths import parse

    full = f"{o.encoder_depth or layers[0]},{o.decoder_depth or layers[1]}"
    return parse(o.depths or (full,), layers)


def _stickers(o: _Options) -> _Found:
    from mue_edge import models
    from mue_edge.apps.catalogue import resolve_model
    from mue_edge.apps.stickers.evaluation import STICKER_SCORES, caption
    from mue_edge.calibrate.training.caption_training import learner

    pupil = learner(resolve_model(o.model), None)
    cells = _cells(o, models.describe(pupil.model).depths)
    _, captioned = caption(pupil, o.split, cells, cache=o.cache, limit=o.limit, references=o.references)
    return captioned, STICKER_SCORES, []


def _examples(o: _Options) -> _Found:
    from mue_edge import models
    from mue_edge.apps.catalogue import resolve_model
    from mue_edge.calibrate.data.examples import read, without_missing
    from mue_edge.calibrate.data.pictures import Pictures
    from mue_edge.calibrate.training.caption_training import learner
    from mue_edge.calibrate.training.depths import caption, mixed

    pupil = learner(resolve_model(o.model), None)
    cells = _cells(o, models.describe(pupil.model).depths)
    examples, problems = without_missing(read(o.data, kind=o.kind, images=o.images), skip=o.skip_bad)
    size = models.describe(pupil.model).preprocess
    shown = Pictures(mixed(examples, o.limit), size, skip_bad=o.skip_bad)

    def progress(starts: Sequence[int]) -> Iterable[int]:
        with click.progressbar(starts, label="captions", file=sys.stderr) as bar:
            yield from bar

    captioned = caption(pupil, shown, cells, progress=progress)
    return captioned, None, problems + shown.problems


def _draw(o: _Options, path: Path, found: ByDepth) -> None:
    from mue_edge.calibrate.report import charts
    from mue_edge.files import atomic_write

    known = found.metrics[found.deepest]
    metric = o.metric or _main(found)
    if metric not in known:
        raise UsageError(f"--metric {metric}: measured here are {', '.join(known)}")
    values = {cell: metrics[metric].total() for cell, metrics in found.metrics.items()}
    if not all(map(math.isfinite, values.values())):
        raise UsageError(f"--metric {metric} is not defined for these pictures, so there is nothing to draw")
    atomic_write(path, charts.heat_map(values, f"{metric} by depth, {_where(o)}"))
    click.echo(f"wrote {path}", err=True)


def _main(found: ByDepth) -> str:
    known = found.metrics[found.deepest]
    return next(name for name in _MAIN if name in known and math.isfinite(known[name].total()))


def _where(o: _Options) -> str:
    return o.split if o.data == "stickers" else Path(o.data).name


def _record(o: _Options, found: ByDepth) -> dict[str, Any]:
    cells = [_cell(o, found, cell) for cell in found.metrics]
    record: dict[str, Any] = {"data": o.data}
    if o.data == "stickers":
        record |= {"split": o.split, "references": o.references}
    record |= {"samples": len(found.clusters), "clusters": len(set(found.clusters)), "words": found.words}
    record |= {"confidence": o.confidence}
    return record | ({"cells": cells} if o.depths else cells[0]) | {"notes": list(found.notes)}


def _cell(o: _Options, found: ByDepth, cell: Depths) -> dict[str, Any]:
    metrics = found.quality(cell, o.confidence).metrics
    record: dict[str, Any] = {"encoder_depth": cell[0], "decoder_depth": cell[1]}
    record |= {"metrics": {name: _finite(value) for name, value in metrics.items()}}
    if o.depths:
        name = _main(found)
        change = _finite(found.change(cell, name, o.confidence))
        record |= {"change": {"metric": name, "of": list(found.deepest)} | change}
    return record


def _finite(value: Estimate) -> dict[str, float | None]:
    """JSON knows no NaN: what is not known is null."""
    return {key: v if math.isfinite(v) else None for key, v in vars(value).items() if key != "level"}


def _print(o: _Options, found: ByDepth) -> None:
    pictures, clusters = len(found.clusters), len(set(found.clusters))
    click.echo(
        f"{_where(o)}: {pictures} pictures of {clusters} captions, {o.confidence:.0%} intervals by caption"
    )
    if not o.depths:
        for name, value in found.quality(found.deepest, o.confidence).metrics.items():
            click.echo(f"  {name:22} {value}")
        return
    main, known = _main(found), found.metrics[found.deepest]
    plain = [name for name in known if name != main]
    widths = {name: max(7, len(name)) for name in plain}
    deepest = ",".join(map(str, found.deepest))
    head = f"encoder  decoder  {main:22}  {f'change of {deepest}, %':24}  "
    click.echo(head + "  ".join(f"{name:>{n}}" for name, n in widths.items()))
    for cell, metrics in found.metrics.items():
        value = found.quality(cell, o.confidence).metrics[main]
        change = found.change(cell, main, o.confidence).shown(1, 100, "+")
        figures = "  ".join(f"{_shown(metrics[name].total()):>{n}}" for name, n in widths.items())
        click.echo(f"{cell[0]:7}  {cell[1]:7}  {value!s:22}  {change:24}  {figures}")


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
