"""The pictures that `mue-edge train` learns from and validates on."""

from __future__ import annotations

from mue_edge.apps.cli.options.training import TrainingOptions
from mue_edge.apps.cli.terminal import say, with_bar
from mue_edge.bundle.manifest import Preprocess
from mue_edge.calibrate.data.examples import read, without_missing
from mue_edge.calibrate.data.pictures import Pictures
from mue_edge.calibrate.training.caption_training import VALIDATED, split
from mue_edge.calibrate.training.depths import mixed
from mue_edge.errors import UsageError


def pictures(o: TrainingOptions, p: Preprocess, leader: bool) -> tuple[Pictures, Pictures | None, list[str]]:
    """Pictures to learn from and to validate on, as the model takes them, and what was left out."""
    examples, problems = without_missing(read(o.data, kind=o.kind, images=o.images), skip=o.skip_bad)
    if o.val is not None:
        held_out, more = without_missing(read(o.val, images=o.val_images), skip=o.skip_bad)
        problems += more
    else:
        examples, held_out = split(examples, o.val_share)
    if not examples:
        raise UsageError(f"{o.data} has too few pictures to hold some out; give --val-share 0")

    validated = mixed(held_out, VALIDATED)
    some = f"{len(validated)} of {len(held_out)}" if len(validated) < len(held_out) else f"{len(validated)}"
    if leader:
        say(f"checking {len(examples)} pictures to learn from and {some} to validate on")
    bars = [with_bar(label) if leader else iter for label in ("pictures", "validation")]
    keep = o.cache_pictures << 20
    learned = Pictures(examples, p, skip_bad=o.skip_bad, keep_bytes=keep, progress=bars[0])
    if not validated:
        return learned, None, problems + learned.problems
    tests = Pictures(validated, p, skip_bad=o.skip_bad, keep_bytes=0, progress=bars[1])
    return learned, tests, problems + learned.problems + tests.problems
