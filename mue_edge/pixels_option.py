"""The option of the commands that take pictures: how large one may be."""

from __future__ import annotations

import os

import click

LARGEST = 178_000_000  # Pillow itself opens none above


def _allow(context: click.Context, parameter: click.Parameter, value: int | None) -> None:
    """Until the command ends, for this process and its workers."""
    if value is None:
        return
    from mue_edge.image import LIMIT_VARIABLE

    before = os.environ.get(LIMIT_VARIABLE)
    os.environ[LIMIT_VARIABLE] = str(value)

    def restore() -> None:
        del os.environ[LIMIT_VARIABLE]
        if before is not None:
            os.environ[LIMIT_VARIABLE] = before

    context.call_on_close(restore)


max_pixels_option = click.option(
    "--max-pixels", type=click.IntRange(1, LARGEST), metavar="N", expose_value=False, callback=_allow,
    help="Of a picture, width × height.  [default: 25000000]",
)  # fmt: skip
