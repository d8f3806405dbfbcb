"""`mue-edge evaluate`: judge a model's captions of a data set, by depth."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from mue_edge import models
from mue_edge.apps.cli.catalogue import resolve_model
from mue_edge.apps.cli.options import NewFile, check_exists, common, option, shared, takes
from mue_edge.apps.cli.terminal import say, with_bar
from mue_edge.errors import UsageError, missing_extra
from mue_edge.files import atomic_write

if TYPE_CHECKING:
    from mue_edge.calibrate.metrics.bootstrap import Estimate
    from mue_edge.calibrate.metrics.quality import Score
    from mue_edge.calibrate.training.depths import ByDepth, Captioned
    from mue_edge.models.family import Depths

STICKERS = "stickers"
# Of these, the first one measured is drawn, and compared with the deepest pair of depths.
_MAIN = ("cider_d", "exact_match")


@dataclass(frozen=True)
class EvaluationOptions:
    model: str = shared(common.model_argument)
    data: str = option("stickers, or pictures with captions.", default=STICKERS)
    kind: str | None = shared(common.format_option)
    images: Path | None = shared(common.images_option)
    skip_bad: bool = shared(common.skip_bad_option)
    split: str = option("Of stickers: a part, or A+B.", default="val_render")
    references: Literal["first", "all"] = option(
        "Of stickers: the CLDR name, or all that people call them.", default="first"
    )
    cache: Path | None = option("Of stickers: where the recipe wrote them.")
    limit: int | None = option("Only so many pictures.", type=common.POSITIVE)
    depths: tuple[str, ...] = option("Encoder, decoder layers; may be repeated.", metavar="all|K,L")
    encoder_depth: int | None = option("Encoder layers.  [default: all]", type=common.POSITIVE)
    decoder_depth: int | None = option("Decoder layers.  [default: all]", type=common.POSITIVE)
    confidence: float = option("Of the intervals.", type=click.FloatRange(0, 1, True, True), default=0.9)
    coco: bool = option(
        "BLEU-4, METEOR, ROUGE-L, CIDEr-D (extra 'evaluate').", "--coco/--no-coco", default=True, show_default=False
    )
    heatmap: Path | None = option("Draw a metric by depths.", type=NewFile())
    metric: str | None = option("The one to draw.  [default: cider_d, else exact_match]")
    show: int = option(
        "Print so many captions beside references.", type=click.IntRange(0), default=0, show_default=False
    )
    as_json: bool = shared(common.json_option("Figures as JSON."))

    @property
    def source(self) -> str:
        """What the pictures are called in the output."""
        return self.split if self.data == STICKERS else Path(self.data).name


@click.command("evaluate")
@takes(EvaluationOptions)
@common.max_pixels_option
def command(o: EvaluationOptions) -> None:
    """Caption a data set with MODEL (a model folder, or `stickers`), greedily, and compare.

    DATA is `stickers`, or a folder of pictures with a table in it, a CSV, TSV or JSON-lines table with
    image and caption, COCO's captions JSON, or OFA's TSV. Intervals count what is drawn together (all
    pictures of an emoji) once. Of several references the best one counts; COCO's metrics take them as
    COCO does. METEOR, and words cut as COCO's are, need Java.
    """
    if o.depths and (o.encoder_depth or o.decoder_depth):
        raise UsageError("--depths names both depths: leave out --encoder-depth and --decoder-depth")

    model = resolve_model(o.model)  # mistakes first: loading torch takes seconds
    if o.data != STICKERS:
        check_exists(Path(o.data), "--data")
    try:
        captioned, scores, notes = _captions(o, model)
    except ModuleNotFoundError as problem:
        raise missing_extra(problem.name or "torch", "train") from problem
    from mue_edge.calibrate.metrics.coco_metrics import METRICS
    from mue_edge.calibrate.training.depths import judge

    result = judge(captioned, scores=scores, coco=METRICS if o.coco else ())
    for note in (*notes, *result.notes):
        say(f"note: {note}")
    if o.heatmap is not None:
        _draw(o, o.heatmap, result)
    if o.as_json:
        click.echo(json.dumps(_record(o, result)))
        return
    click.echo("\n".join(_text(o, result)))
    for sample in captioned[: o.show]:
        caption, expected = sample.captions[result.deepest], " | ".join(sample.references)
        sign = "=" if caption in sample.references else "≠"
        click.echo(f"  {sign} {sample.id}: {caption!r} ({expected!r})")


def _captions(o: EvaluationOptions, model: Path) -> tuple[list[Captioned], Mapping[str, Score] | None, list[str]]:
    """Captions, the scores beside COCO's (None: the general ones), and notes."""
    from mue_edge.calibrate.data.examples import read, without_missing
    from mue_edge.calibrate.data.pictures import Pictures
    from mue_edge.calibrate.training.caption_training import learner
    from mue_edge.calibrate.training.depths import caption, mixed, parse

    pupil = learner(model, None)
    description = models.describe(pupil.model)
    layers = description.depths
    deepest = f"{o.encoder_depth or layers[0]},{o.decoder_depth or layers[1]}"
    cells = parse(o.depths or (deepest,), layers)
    if o.data == STICKERS:
        from mue_edge.apps.stickers import evaluation

        options: dict[str, Any] = {"cache": o.cache, "limit": o.limit, "references": o.references}
        _, captioned = evaluation.caption(pupil, o.split, cells, **options)
        return captioned, evaluation.STICKER_SCORES, []
    examples, problems = without_missing(read(o.data, kind=o.kind, images=o.images), skip=o.skip_bad)
    pictures = Pictures(mixed(examples, o.limit), description.preprocess, skip_bad=o.skip_bad)
    return caption(pupil, pictures, cells, progress=with_bar("captions")), None, problems + pictures.problems


def _draw(o: EvaluationOptions, path: Path, result: ByDepth) -> None:
    from mue_edge.calibrate.report import charts

    metric = o.metric or _main(result)
    if metric not in result.metrics[result.deepest]:
        measured = ", ".join(result.metrics[result.deepest])
        raise UsageError(f"--metric {metric}: measured here are {measured}")
    values = {cell: metrics[metric].total() for cell, metrics in result.metrics.items()}
    if not all(map(math.isfinite, values.values())):
        raise UsageError(f"--metric {metric} is not defined for these pictures, so there is nothing to draw")
    atomic_write(path, charts.heat_map(values, f"{metric} by depth, {o.source}"))
    say(f"wrote {path}")


def _main(result: ByDepth) -> str:
    metrics = result.metrics[result.deepest]
    return next(name for name in _MAIN if name in metrics and math.isfinite(metrics[name].total()))


def _record(o: EvaluationOptions, result: ByDepth) -> dict[str, Any]:
    cells = [_cell(o, result, cell) for cell in result.metrics]
    data = {"split": o.split, "references": o.references} if o.data == STICKERS else {}
    counts = {"samples": len(result.clusters), "clusters": len(set(result.clusters)), "words": result.words}
    figures = {"cells": cells} if o.depths else cells[0]
    notes = {"notes": list(result.notes)}
    return {"data": o.data} | data | counts | {"confidence": o.confidence} | figures | notes


def _cell(o: EvaluationOptions, result: ByDepth, cell: Depths) -> dict[str, Any]:
    metrics = result.quality(cell, o.confidence).metrics
    record: dict[str, Any] = {"encoder_depth": cell[0], "decoder_depth": cell[1]}
    record |= {"metrics": {name: _finite(value) for name, value in metrics.items()}}
    if o.depths:
        name = _main(result)
        change = _finite(result.change(cell, name, o.confidence))
        record |= {"change": {"metric": name, "of": list(result.deepest)} | change}
    return record


def _finite(value: Estimate) -> dict[str, float | None]:
    """JSON knows no NaN: what is not known is null."""
    return {key: v if math.isfinite(v) else None for key, v in vars(value).items() if key != "level"}


def _text(o: EvaluationOptions, result: ByDepth) -> Iterator[str]:
    pictures, clusters = len(result.clusters), len(set(result.clusters))
    yield f"{o.source}: {pictures} pictures of {clusters} captions, {o.confidence:.0%} intervals by caption"
    if not o.depths:
        for name, value in result.quality(result.deepest, o.confidence).metrics.items():
            yield f"  {name:22} {value}"
        return
    main = _main(result)
    widths = {name: max(7, len(name)) for name in result.metrics[result.deepest] if name != main}
    deepest = ",".join(map(str, result.deepest))
    names = "  ".join(f"{name:>{n}}" for name, n in widths.items())
    yield f"encoder  decoder  {main:22}  {f'change of {deepest}, %':24}  {names}"
    for cell, metrics in result.metrics.items():
        value = result.quality(cell, o.confidence).metrics[main]
        change = result.change(cell, main, o.confidence).shown(1, 100, "+")
        totals = {name: metrics[name].total() for name in widths}
        figures = "  ".join(f"{'-' if math.isnan(x) else f'{x:.3f}':>{widths[n]}}" for n, x in totals.items())
        yield f"{cell[0]:7}  {cell[1]:7}  {value!s:22}  {change:24}  {figures}"
