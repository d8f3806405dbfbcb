"""`mue-edge evaluate`: judge a model's captions of a data set, by depth."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from mue_edge.apps.cli.options.common import (
    format_option,
    images_option,
    json_option,
    model_argument,
    skip_bad_option,
)
from mue_edge.apps.cli.options.pixels import max_pixels_option
from mue_edge.apps.cli.options.sets import option, shared, takes
from mue_edge.apps.cli.options.types import NewFile, check_there
from mue_edge.errors import UsageError, missing_extra

if TYPE_CHECKING:
    from mue_edge.calibrate.metrics.bootstrap import Estimate
    from mue_edge.calibrate.metrics.quality import Score
    from mue_edge.calibrate.training.depths import ByDepth, Captioned
    from mue_edge.models.family import Depths

# Of these, the first one measured is drawn, and compared with the deepest pair of depths.
_MAIN = ("cider_d", "exact_match")


@dataclass(frozen=True)
class EvaluationOptions:
    """The command's options."""

    model: str = shared(model_argument)
    data: str = option(
        "--data", default="stickers", show_default=True, help="stickers, or pictures with captions."
    )
    kind: str | None = shared(format_option)
    images: Path | None = shared(images_option)
    skip_bad: bool = shared(skip_bad_option)
    split: str = option(
        "--split", default="val_render", show_default=True, help="Of stickers: a part, or A+B."
    )
    references: Literal["first", "all"] = option(
        "--references",
        type=click.Choice(["first", "all"]),
        default="first",
        show_default=True,
        help="Of stickers: the CLDR name, or all that people call them.",
    )
    cache: Path | None = option(
        "--cache", type=click.Path(path_type=Path), help="Of stickers: where the recipe wrote them."
    )
    limit: int | None = option("--limit", type=click.IntRange(1), help="Only so many pictures.")
    depths: tuple[str, ...] = option(
        "--depths", multiple=True, metavar="all|K,L", help="Encoder, decoder layers; may be repeated."
    )
    encoder_depth: int | None = option(
        "--encoder-depth", type=click.IntRange(1), help="Encoder layers.  [default: all]"
    )
    decoder_depth: int | None = option(
        "--decoder-depth", type=click.IntRange(1), help="Decoder layers.  [default: all]"
    )
    confidence: float = option(
        "--confidence",
        type=click.FloatRange(0, 1, True, True),
        default=0.9,
        show_default=True,
        help="Of the intervals.",
    )
    coco: bool = option(
        "--coco/--no-coco", default=True, help="BLEU-4, METEOR, ROUGE-L, CIDEr-D (extra 'evaluate')."
    )
    heatmap: Path | None = option("--heatmap", type=NewFile(), help="Draw a metric by depths.")
    metric: str | None = option("--metric", help="The one to draw.  [default: cider_d, else exact_match]")
    show: int = option(
        "--show", type=click.IntRange(0), default=0, help="Print so many captions beside references."
    )
    as_json: bool = shared(json_option("Figures as JSON."))


@click.command("evaluate")
@takes(EvaluationOptions)
@max_pixels_option
def command(o: EvaluationOptions) -> None:
    """Caption a data set with MODEL (a model folder, or `stickers`), greedily, and compare.

    DATA is `stickers`, or a folder of pictures with a table in it, a CSV, TSV or JSON-lines table with
    image and caption, COCO's captions JSON, or OFA's TSV. Intervals count what is drawn together (all
    pictures of an emoji) once. Of several references the best one counts; COCO's metrics take them as
    COCO does. METEOR, and words cut as COCO's are, need Java.
    """
    if o.depths and (o.encoder_depth or o.decoder_depth):
        raise UsageError("--depths names both depths: leave out --encoder-depth and --decoder-depth")
    from mue_edge.apps.cli.catalogue import resolve_model

    resolve_model(o.model)  # mistakes first: loading torch takes seconds
    if o.data != "stickers":
        check_there(Path(o.data), "--data")
    try:
        captioned, scores, notes = (_stickers if o.data == "stickers" else _examples)(o)
    except ModuleNotFoundError as problem:
        raise missing_extra(problem.name or "torch", "train") from problem
    from mue_edge.calibrate.metrics.coco_metrics import METRICS
    from mue_edge.calibrate.training.depths import judge

    found = judge(captioned, scores=scores, coco=METRICS if o.coco else ())
    for note in (*notes, *found.notes):
        click.echo(f"note: {note}", err=True)
    if o.heatmap is not None:
        _draw(o, o.heatmap, found)
    if o.as_json:
        click.echo(json.dumps(_record(o, found)))
        return
    _print(o, found)
    for sample in captioned[: o.show]:
        caption, expected = sample.captions[found.deepest], " | ".join(sample.references)
        sign = "=" if caption in sample.references else "≠"
        click.echo(f"  {sign} {sample.id}: {caption!r} ({expected!r})")


# Captions, the scores beside COCO's (None: the general ones), and notes.
_Found = tuple[list["Captioned"], "Mapping[str, Score] | None", list[str]]


def _cells(o: EvaluationOptions, layers: Depths) -> list[Depths]:
    from mue_edge.calibrate.training.depths import parse

    full = f"{o.encoder_depth or layers[0]},{o.decoder_depth or layers[1]}"
    return parse(o.depths or (full,), layers)


def _stickers(o: EvaluationOptions) -> _Found:
    from mue_edge import models
    from mue_edge.apps.cli.catalogue import resolve_model
    from mue_edge.apps.stickers.evaluation import STICKER_SCORES, caption
    from mue_edge.calibrate.training.caption_training import learner

    pupil = learner(resolve_model(o.model), None)
    cells = _cells(o, models.describe(pupil.model).depths)
    _, captioned = caption(pupil, o.split, cells, cache=o.cache, limit=o.limit, references=o.references)
    return captioned, STICKER_SCORES, []


def _examples(o: EvaluationOptions) -> _Found:
    from mue_edge import models
    from mue_edge.apps.cli.catalogue import resolve_model
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


def _draw(o: EvaluationOptions, path: Path, found: ByDepth) -> None:
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


def _where(o: EvaluationOptions) -> str:
    return o.split if o.data == "stickers" else Path(o.data).name


def _record(o: EvaluationOptions, found: ByDepth) -> dict[str, Any]:
    cells = [_cell(o, found, cell) for cell in found.metrics]
    record: dict[str, Any] = {"data": o.data}
    if o.data == "stickers":
        record |= {"split": o.split, "references": o.references}
    record |= {"samples": len(found.clusters), "clusters": len(set(found.clusters)), "words": found.words}
    record |= {"confidence": o.confidence}
    return record | ({"cells": cells} if o.depths else cells[0]) | {"notes": list(found.notes)}


def _cell(o: EvaluationOptions, found: ByDepth, cell: Depths) -> dict[str, Any]:
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


def _print(o: EvaluationOptions, found: ByDepth) -> None:
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
