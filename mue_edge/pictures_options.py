"""Options of the commands that choose policies: which pictures, and by how many processes."""

from __future__ import annotations

import click

from mue_edge.option_set import Existing, option_set
from mue_edge.pixels_option import max_pixels_option

# Gives a command `data`, `kind`, `images`, `tune` and `workers`.
pictures_options = option_set((
    click.option(
        "--data", metavar="PATH|NAME",
        help="Pictures, with or without captions; a bundled model's.  [default: the model's own]",
    ),
    click.option("--format", "kind", help="folder, csv, tsv, jsonl, coco or ofa.  [default: recognised]"),
    click.option("--images", type=Existing(),
                 help="Where pictures are.  [default: the table's]"),
    max_pixels_option,
    click.option("--tune", type=click.IntRange(20), default=240, show_default=True,
                 help="At most so many pictures to tune on."),
    click.option("--workers", type=click.IntRange(1, 256),
                 help="Processes that trace.  [default: the cores]"),
))  # fmt: skip
