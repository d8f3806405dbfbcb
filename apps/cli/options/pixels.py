"""The option of the commands that take pictures: how large one may be, and that its memory is given back."""

from __future__ import annotations

import os

import click

from mue_edge.apps.cli.allocator import return_large_blocks

LARGEST = 178_000_000  # Pillow itself opens none above


def _allow(context: click.Context, parameter: click.Parameter, value: int | None) -> None:
    """Until the command ends, for this process and its workers."""
    return_large_blocks()
    if value is None:
        return
    from mue_edge.inputs.image import LIMIT_VARIABLE

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
