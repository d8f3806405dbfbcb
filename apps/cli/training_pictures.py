"""The pictures that `mue-edge train` learns from and validates on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

import click

from mue_edge.apps.cli.options.training import TrainingOptions
from mue_edge.apps.cli.terminal import say
from mue_edge.bundle.manifest import Preprocess
from mue_edge.calibrate.data.examples import Example, read, without_missing
from mue_edge.calibrate.data.pictures import Pictures
from mue_edge.calibrate.training.caption_training import VALIDATED, split
from mue_edge.calibrate.training.depths import mixed
from mue_edge.errors import UsageError


def pictures(o: TrainingOptions, p: Preprocess, leader: bool) -> tuple[Pictures, Pictures | None, list[str]]:
    """Pictures to learn from and to validate on, as the model takes them, and what was left out."""
    examples, problems = without_missing(read(o.data, kind=o.kind, images=o.images), skip=o.skip_bad)
    if o.val is not None:
        held, more = without_missing(read(o.val, images=o.val_images), skip=o.skip_bad)
        problems += more
    else:
        examples, held = split(examples, o.val_share)
    if not examples:
        raise UsageError(f"{o.data} has too few pictures to hold some out; give --val-share 0")

    tested = mixed(held, VALIDATED)
    some = f"{len(tested)} of {len(held)}" if len(tested) < len(held) else f"{len(tested)}"
    if leader:
        say(f"checking {len(examples)} pictures to learn from and {some} to validate on")

    def progress(label: str) -> Callable[[Sequence[Example]], Iterable[Example]]:
        def pass_on(found: Sequence[Example]) -> Iterable[Example]:
            if not (leader and sys.stderr.isatty()):
                yield from found
                return
            with click.progressbar(found, label=label, file=sys.stderr) as bar:
                yield from bar

        return pass_on

    keep = o.cache_pictures << 20
    shown = Pictures(examples, p, skip_bad=o.skip_bad, keep_bytes=keep, progress=progress("pictures"))
    if not tested:
        return shown, None, problems + shown.problems
    seen = Pictures(tested, p, skip_bad=o.skip_bad, keep_bytes=0, progress=progress("validation"))
    return shown, seen, problems + shown.problems + seen.problems
