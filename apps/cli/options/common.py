"""Options and arguments that several commands have, each declared once. The help shows every default."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import mue_edge
from mue_edge.apps.cli.catalogue import DEFAULT
from mue_edge.apps.cli.completion import models, policies, targets
from mue_edge.apps.cli.options import Existing, option, shared
from mue_edge.durations import seconds
from mue_edge.machine import return_large_blocks

if TYPE_CHECKING:
    from mue_edge.sessions.captioner import Captioner

Option = Callable[[Callable[..., Any]], Callable[..., Any]]
POSITIVE = click.IntRange(1)
THREADS = click.IntRange(1, 256)
LARGEST = 178_000_000  # Pillow itself opens none above


def _limit_pixels(context: click.Context, parameter: click.Parameter, value: int | None) -> None:
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


model_argument = click.argument("model", shell_complete=models, default=DEFAULT)
bundle_argument = click.argument("bundle", shell_complete=models)
images_argument = click.argument("images", nargs=-1)
bundle_option = click.option(
    "--bundle", shell_complete=models, metavar="DIR|NAME", help=f"The bundle that runs.  [default: {DEFAULT}]"
)
deadline_option = click.option(
    "--deadline",
    type=seconds,
    metavar="TIME",
    help="Hard limit a caption, like 50ms: short of time, exit sooner, and at last end the caption early.",
)
precision_option = click.option("--precision", help="fp32, int8: what the target has.")
image_size_option = click.option("--image-size", metavar="N|HxW", help="Size of the network's input in pixels.")
host_option = click.option("--host", default="127.0.0.1", help="Where to listen; 0.0.0.0 is everywhere.")
format_option = click.option("--format", "kind", help="folder, csv, tsv, jsonl, coco or ofa.  [default: recognised]")
images_option = click.option("--images", type=Existing(), help="Where pictures are.  [default: the table's]")
skip_bad_option = click.option("--skip-bad", is_flag=True, help="Leave out pictures that are missing or damaged.")
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1, LARGEST),
    metavar="N",
    expose_value=False,
    callback=_limit_pixels,
    help="Of a picture, width × height.  [default: 25000000]",
)


def json_option(what: str) -> Option:
    """`--json`, as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=what)


def out_folder(default: str, what: str = "") -> Option:
    """`--out` for a folder, whose default the command knows."""
    return click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help=f"{what}[default: {default}]")


def policy_option(default: str = "the bundle's chosen one", files: bool = True) -> Option:
    """`--policy`; default: what runs without it; files: whether it may name one."""
    return click.option(
        "--policy",
        shell_complete=policies,
        metavar="FILE|NAME" if files else "NAME",
        help=f"A policy of the bundle's front{', or a file' if files else ''}.  [default: {default}]",
    )


def threads_option(default: int | None = None) -> Option:
    """`--threads`; default: None leaves it to the runtime."""
    return click.option("--threads", type=THREADS, default=default, help="Threads of the runtime.")


def target_option(default: str | None = "host", what: str = "What to export for; see: targets.") -> Option:
    """`--target`."""
    return click.option("--target", shell_complete=targets, metavar="NAME", default=default, help=what)


def port_option(default: int) -> Option:
    """`--port`."""
    return click.option("--port", type=click.IntRange(0, 65535), default=default, help="0: any free one.")


def clock_option(default: str) -> Option:
    """`--clock`."""
    return click.option(
        "--clock",
        type=click.Choice(["wall", "cpu"]),
        default=default,
        help="cpu: one thread's CPU time, for a machine that others use too.",
    )


@dataclass(frozen=True)
class PictureOptions:
    """Which pictures policies are chosen on, and by how many processes."""

    data: str | None = option(
        "Pictures, with or without captions; a bundled model's.  [default: the model's own]", metavar="PATH|NAME"
    )
    kind: str | None = shared(format_option)
    images: Path | None = shared(images_option)
    tune: int = option("At most so many pictures to tune on.", type=click.IntRange(20), default=240)
    workers: int | None = option("Processes that trace.  [default: the cores]", type=THREADS)


@dataclass(frozen=True)
class SessionOptions:
    """The bundle that an application runs, and how."""

    bundle: str | None = shared(bundle_option)
    policy: str | None = shared(policy_option())
    threads: int | None = shared(threads_option())

    def open(self) -> Captioner:
        """Its captioner."""
        return mue_edge.open(self.bundle, threads=self.threads)
