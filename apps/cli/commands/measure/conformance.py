"""`mue-edge conformance`: write decision logs for ports to other languages, or check one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mue_edge.apps.cli.options.common import bundle_argument, threads_option
from mue_edge.apps.cli.options.pixels import max_pixels_option
from mue_edge.errors import command_line

if TYPE_CHECKING:
    from mue_edge.sessions.captioner import Captioner

LOGS, GUIDE, PICTURES = "logs.json", "README.md", "pictures"


@click.command("conformance")
@bundle_argument
@click.argument("images", nargs=-1)
@click.option("--check", type=click.Path(dir_okay=False), metavar="LOG", help="Judge a port's log instead.")
@click.option("--out", type=click.Path(), metavar="DIR", help="The kit.  [default: BUNDLE-conformance]")
@max_pixels_option
@threads_option()
def command(
    bundle: str, images: tuple[str, ...], check: str | None, out: str | None, threads: int | None
) -> None:
    """Write decision logs of a BUNDLE on IMAGES or its golden pictures, for every policy of its front.

    A port in another language captions the kit's pictures by the same policies and writes the same kind
    of log; --check replays it: the decisions must follow from the port's own scores, and the scores must
    be this machine's (give the IMAGES again, if the kit was made with some). Exit code 6: they do not.
    """
    from mue_edge import targets

    with targets.open(bundle, threads=threads) as captioner:
        shown = _pictures(captioner, images)
        if check is not None:
            _check(captioner, shown, Path(check))
            return
        place = Path(out or f"{Path(bundle).name}-conformance")
        _write(captioner, shown, place)
    check_it = command_line("conformance", bundle, "--check", "LOG")
    click.echo(f"wrote {place}; a port's log is checked with: {check_it}")


def _pictures(captioner: Captioner, images: Sequence[str]) -> list[Any]:
    """Pictures [H, W, 3] in bytes, resized as the bundle takes them."""
    import numpy as np
    from PIL import Image

    from mue_edge.inputs import gathering
    from mue_edge.targets import golden

    if not images:
        return list(golden.read(captioner.bundle)[0])
    p = captioner.bundle.manifest.preprocess
    size, filter_ = (p.width, p.height), Image.Resampling.BICUBIC
    return [np.asarray(captioner.load(file).rgb.resize(size, filter_)) for file in gathering.gather(images)]


def _policies(captioner: Captioner, shown: Sequence[Any]) -> list[dict[str, Any]]:
    """The front's, and one that exits in any case."""
    from mue_edge.measuring import bench
    from mue_edge.targets import golden

    manifest = captioner.bundle.manifest
    pixels = [golden.pixels(picture, manifest.preprocess) for picture in shown]
    some, _ = bench.exiting_policy(captioner, pixels)
    front = [policy.to_json() for policy in captioner.bundle.manifest.policies().values()]
    return front if some.to_json() in front else [*front, some.to_json()]


def _write(captioner: Captioner, shown: Sequence[Any], place: Path) -> None:
    from importlib import resources

    from PIL import Image

    from mue_edge.bundle import conformance
    from mue_edge.files import atomic_folder
    from mue_edge.targets import golden

    manifest, entries = captioner.bundle.manifest, []
    policies = _policies(captioner, shown)
    for i, picture in enumerate(shown):
        captioner.runtime.set_pixels(golden.pixels(picture, manifest.preprocess))
        entries += [
            conformance.record(i, policy, captioner.layout, manifest.search, captioner.runtime)
            for policy in policies
        ]
    with atomic_folder(place, LOGS) as work:
        (work / PICTURES).mkdir()
        for i, picture in enumerate(shown):
            Image.fromarray(picture).save(work / PICTURES / f"{i}.png")
        guide = resources.files("mue_edge").joinpath("conformance.md").read_text(encoding="utf-8")
        (work / GUIDE).write_text(guide, encoding="utf-8")
        conformance.write(work / LOGS, entries, manifest.plan_hash)


def _check(captioner: Captioner, shown: Sequence[Any], path: Path) -> None:
    from mue_edge.bundle import conformance
    from mue_edge.bundle.policy_files import from_json as policy_from_json
    from mue_edge.errors import InputFileError, VerificationError
    from mue_edge.loop.replay import replay
    from mue_edge.targets import golden
    from mue_edge.targets.verify import SCORE_TOLERANCE

    manifest, errors = captioner.bundle.manifest, [0.0]
    tolerance = SCORE_TOLERANCE.get(manifest.precision)
    entries = conformance.read(path, manifest.plan_hash)
    if not entries:
        raise InputFileError(f"{path} holds no logs")
    for number, entry in enumerate(entries, 1):
        where = f"{path}: log {number}"
        log = conformance.check(entry, captioner.layout, manifest.search, where)
        if not 0 <= entry.picture < len(shown):
            raise InputFileError(
                f"{where} is of picture {entry.picture}, here are {len(shown)}; give the kit's IMAGES"
            )
        captioner.runtime.set_pixels(golden.pixels(shown[entry.picture], manifest.preprocess))
        under = policy_from_json(entry.policy)
        found = replay(log, captioner.layout, manifest.search, captioner.runtime, under)
        errors += found.score_errors
        if tolerance is not None and (not found.same_tokens or max(errors) > tolerance):
            raise VerificationError(
                f"{where}: with the same exits this machine's runtime gives "
                f"{'the same' if found.same_tokens else 'other'} tokens and scores that differ by up to "
                f"{max(errors):.1e} (allowed {tolerance:.0e})"
            )
    click.echo(f"{len(entries)} logs: every segment, exit and token follows from the scores that were read")
    promised = "" if tolerance else f"; {manifest.precision} promises no equality"
    click.echo(f"scores differ from this machine's by up to {max(errors):.1e}{promised}")
