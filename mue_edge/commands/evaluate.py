"""`mue-edge evaluate`: caption quality of a model on a data set."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from mue_edge.errors import missing_extra


@click.command("evaluate")
@click.argument("model", default="stickers")
@click.option(
    "--data", type=click.Choice(["stickers"]), default="stickers", show_default=True, help="The data set."
)
@click.option("--split", default="val_render", show_default=True, help="The part of it to measure.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where the data set's recipe wrote it.")
@click.option("--limit", type=click.IntRange(1), help="Only so many pictures.")
@click.option("--image-depth", type=click.IntRange(1), help="Encoder layers of the picture.  [default: all]")
@click.option("--decoder-depth", type=click.IntRange(1), help="Decoder layers.  [default: all]")
@click.option("--show", type=click.IntRange(0), default=0, help="Print so many captions beside references.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON.")
def command(
    model: str, data: str, split: str, cache: Path | None, limit: int | None,
    image_depth: int | None, decoder_depth: int | None, show: int, as_json: bool,
) -> None:  # fmt: skip
    """Caption a data set with MODEL (a model folder, or `stickers`), greedily, and compare.

    Standard errors count what is drawn together (all pictures of an emoji) once.
    """
    from mue_edge.apps import stickers

    folder = Path(model)
    if model == "stickers" and not folder.is_dir():
        folder = stickers.model_folder()
    try:
        from mue_edge.apps.stickers.evaluation import evaluate
    except ModuleNotFoundError as problem:
        raise missing_extra(problem.name or "torch", "train") from problem
    found = evaluate(
        folder, split, cache=cache, limit=limit, image_depth=image_depth, decoder_depth=decoder_depth
    )
    if as_json:
        figures = {name: asdict(value) for name, value in found.quality.metrics.items()}
        shape = {"data": data, "split": split, "image_depth": image_depth, "decoder_depth": decoder_depth}
        counts = {"samples": found.quality.samples, "clusters": found.quality.clusters}
        click.echo(json.dumps(shape | counts | {"metrics": figures}))
        return
    click.echo(f"{split}: {found.quality.samples} pictures of {found.quality.clusters} captions")
    for name, value in found.quality.metrics.items():
        click.echo(f"  {name:22} {value.mean:.3f} ± {value.standard_error:.3f}")
    for record, caption in found.captions[:show]:
        click.echo(
            f"  {'=' if caption == record.caption else '≠'} {record.id}: {caption!r} ({record.caption!r})"
        )
