"""`mue-edge evaluate`: caption quality of a model on a data set, by encoder and decoder depth."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mue_edge.errors import UsageError, missing_extra

if TYPE_CHECKING:
    from mue_edge.calibrate.depths import ByDepth, Captioned, Depths
    from mue_edge.calibrate.quality import Quality


@dataclass(frozen=True)
class _Options:
    """The command's options, by their names."""

    model: str
    data: str
    kind: str | None
    images: Path | None
    skip_bad: bool
    split: str
    cache: Path | None
    limit: int | None
    depths: tuple[str, ...]
    image_depth: int | None
    decoder_depth: int | None
    coco: bool
    heatmap: Path | None
    metric: str | None
    show: int
    as_json: bool


@click.command("evaluate")
@click.argument("model", default="stickers")
@click.option("--data", default="stickers", show_default=True, help="stickers, or pictures with captions.")
@click.option("--format", "kind", help="folder, csv, tsv, jsonl, coco or ofa.  [default: recognised]")
@click.option("--images", type=click.Path(path_type=Path), help="Where pictures are.  [default: the table's]")
@click.option("--skip-bad", is_flag=True, help="Leave out pictures that are missing or damaged.")
@click.option("--split", default="val_render", show_default=True, help="Of stickers: the part to measure.")
@click.option("--cache", type=click.Path(path_type=Path), help="Of stickers: where the recipe wrote them.")
@click.option("--limit", type=click.IntRange(1), help="Only so many pictures.")
@click.option("--depths", multiple=True, metavar="all|K,L", help="Encoder, decoder layers; may be repeated.")
@click.option("--image-depth", type=click.IntRange(1), help="Encoder layers of the picture.  [default: all]")
@click.option("--decoder-depth", type=click.IntRange(1), help="Decoder layers.  [default: all]")
@click.option("--coco/--no-coco", default=True, help="BLEU-4, METEOR, ROUGE-L, CIDEr-D (extra 'evaluate').")
@click.option("--heatmap", type=click.Path(path_type=Path, dir_okay=False), help="Draw a metric by depths.")
@click.option("--metric", help="The one to draw.  [default: cider_d, else exact_match]")
@click.option("--show", type=click.IntRange(0), default=0, help="Print so many captions beside references.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON.")
def command(**options: Any) -> None:
    """Caption a data set with MODEL (a model folder, or `stickers`), greedily, and compare.

    DATA is `stickers`, or a folder of pictures with a table in it, a CSV, TSV or JSON-lines table with
    image and caption, COCO's captions JSON, or OFA's TSV. Standard errors count what is drawn together
    (all pictures of an emoji) once. METEOR, and words cut as COCO's are, need Java.
    """
    chosen = _Options(**options)
    if chosen.depths and (chosen.image_depth or chosen.decoder_depth):
        raise UsageError("--depths names both depths: leave out --image-depth and --decoder-depth")
    try:
        from mue_edge.calibrate.depths import ByDepth, with_coco
    except ModuleNotFoundError as problem:
        raise missing_extra(problem.name or "torch", "train") from problem
    captioned, cells, notes = (_stickers if chosen.data == "stickers" else _examples)(chosen)
    found = with_coco(captioned, cells) if chosen.coco else ByDepth(cells, "spaces", ())
    for note in (*notes, *found.notes):
        click.echo(f"note: {note}", err=True)
    if chosen.heatmap is not None:
        _draw(chosen, chosen.heatmap, found)
    if chosen.as_json:
        click.echo(json.dumps(_record(chosen, found)))
        return
    _print(chosen, found)
    deepest = max(found.cells)
    for sample in captioned[: chosen.show]:
        caption, expected = sample.captions[deepest], " | ".join(sample.references)
        sign = "=" if caption in sample.references else "≠"
        click.echo(f"  {sign} {sample.id}: {caption!r} ({expected!r})")


_Found = tuple[list["Captioned"], "dict[Depths, Quality]", list[str]]


def _cells(o: _Options, layers: Depths) -> list[Depths]:
    from mue_edge.calibrate.depths import parse

    full = f"{o.image_depth or layers[0]},{o.decoder_depth or layers[1]}"
    return parse(o.depths or (full,), layers)


def _stickers(o: _Options) -> _Found:
    from mue_edge.apps.catalogue import resolve_model
    from mue_edge.apps.stickers.evaluation import evaluate
    from mue_edge.calibrate.depths import Captioned
    from mue_edge.models import captioning

    folder = resolve_model(o.model)
    cells = _cells(o, captioning.depths(captioning.load(folder)))
    found = {
        cell: evaluate(
            folder, o.split, cache=o.cache, limit=o.limit, image_depth=cell[0], decoder_depth=cell[1]
        )
        for cell in cells
    }
    first = next(iter(found.values()))
    captioned = [
        Captioned(r.id, (r.caption,), r.emoji, {cell: e.captions[i][1] for cell, e in found.items()})
        for i, (r, _) in enumerate(first.captions)
    ]
    return captioned, {cell: e.quality for cell, e in found.items()}, []


def _examples(o: _Options) -> _Found:
    from mue_edge.apps.catalogue import resolve_model
    from mue_edge.calibrate.caption_training import learner
    from mue_edge.calibrate.depths import caption, judge, mixed
    from mue_edge.calibrate.examples import read, without_missing
    from mue_edge.calibrate.pictures import Pictures
    from mue_edge.models import captioning

    pupil = learner(resolve_model(o.model), None)
    cells = _cells(o, captioning.depths(pupil.model))
    examples, problems = without_missing(read(o.data, kind=o.kind, images=o.images), skip=o.skip_bad)
    shown = Pictures(mixed(examples, o.limit), captioning.image_size(pupil.model), skip_bad=o.skip_bad)

    def progress(starts: Sequence[int]) -> Iterable[int]:
        with click.progressbar(starts, label="captions", file=sys.stderr) as bar:
            yield from bar

    captioned = caption(pupil, shown, cells, progress=progress)
    return captioned, judge(captioned), problems + shown.problems


def _draw(o: _Options, path: Path, found: ByDepth) -> None:
    from mue_edge.calibrate import charts
    from mue_edge.files import atomic_write

    known = next(iter(found.cells.values())).metrics
    metric = o.metric or ("cider_d" if "cider_d" in known else "exact_match")
    if metric not in known:
        raise UsageError(f"--metric {metric}: measured here are {', '.join(known)}")
    values = {cell: quality.metrics[metric].mean for cell, quality in found.cells.items()}
    atomic_write(path, charts.heat_map(values, f"{metric} by depth, {_where(o)}"))
    click.echo(f"wrote {path}", err=True)


def _where(o: _Options) -> str:
    return o.split if o.data == "stickers" else Path(o.data).name


def _record(o: _Options, found: ByDepth) -> dict[str, Any]:
    one = next(iter(found.cells.values()))
    record: dict[str, Any] = {"data": o.data, "split": o.split if o.data == "stickers" else None}
    counts = {"samples": one.samples, "clusters": one.clusters, "words": found.words}
    if not o.depths:
        return record | {
            "image_depth": o.image_depth, "decoder_depth": o.decoder_depth, **counts,
            "metrics": _figures(one), "notes": list(found.notes),
        }  # fmt: skip
    cells = [
        {"image_depth": image, "decoder_depth": decoder, "metrics": _figures(quality)}
        for (image, decoder), quality in found.cells.items()
    ]
    return record | counts | {"cells": cells, "notes": list(found.notes)}


def _figures(quality: Quality) -> dict[str, dict[str, float | None]]:
    """JSON knows no NaN: a standard error that is not known is null."""
    return {
        name: {k: v if math.isfinite(v) else None for k, v in vars(value).items()}
        for name, value in quality.metrics.items()
    }


def _print(o: _Options, found: ByDepth) -> None:
    one = next(iter(found.cells.values()))
    click.echo(f"{_where(o)}: {one.samples} pictures of {one.clusters} captions")
    if not o.depths:
        for name, value in one.metrics.items():
            error = f" ± {value.standard_error:.3f}" if math.isfinite(value.standard_error) else ""
            click.echo(f"  {name:22} {value.mean:.3f}{error}")
        return
    widths = {name: max(7, len(name)) for name in one.metrics}
    click.echo("encoder  decoder  " + "  ".join(f"{name:>{n}}" for name, n in widths.items()))
    for (image, decoder), quality in found.cells.items():
        figures = "  ".join(f"{quality.metrics[name].mean:{n}.3f}" for name, n in widths.items())
        click.echo(f"{image:7}  {decoder:7}  {figures}")
