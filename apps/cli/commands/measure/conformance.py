"""`mue-edge conformance`: write decision logs for ports to other languages, or check one."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from mue_edge import targets
from mue_edge.apps.cli.options import common
from mue_edge.bundle import conformance
from mue_edge.bundle.policy_files import from_json as policy_from_json
from mue_edge.errors import InputFileError, VerificationError, command_line
from mue_edge.files import atomic_folder
from mue_edge.inputs import gathering
from mue_edge.loop.replay import replay
from mue_edge.measuring import bench
from mue_edge.sessions.captioner import Captioner
from mue_edge.targets import golden
from mue_edge.targets.verify import SCORE_TOLERANCE

LOGS, GUIDE, PICTURES = "logs.json", "README.md", "pictures"


@click.command("conformance")
@common.bundle_argument
@common.images_argument
@click.option("--check", type=click.Path(dir_okay=False), metavar="LOG", help="Judge a port's log instead.")
@common.out_folder("BUNDLE-conformance", "The kit.  ")
@common.max_pixels_option
@common.threads_option()
def command(bundle: str, images: tuple[str, ...], check: str | None, out: Path | None, threads: int | None) -> None:
    """Write decision logs of a BUNDLE on IMAGES or its golden pictures, for every policy of its front.

    A port in another language captions the kit's pictures by the same policies and writes the same kind
    of log; --check replays it: the decisions must follow from the port's own scores, and the scores must
    be this machine's (give the IMAGES again, if the kit was made with some). Exit code 6: they do not.
    """
    with targets.open(bundle, threads=threads) as captioner:
        pictures = _pictures(captioner, images)
        if check is not None:
            _check(captioner, pictures, Path(check))
            return
        folder = out or Path(f"{Path(bundle).name}-conformance")
        _write(captioner, pictures, folder)
    check_it = command_line("conformance", bundle, "--check", "LOG")
    click.echo(f"wrote {folder}; a port's log is checked with: {check_it}")


def _pictures(captioner: Captioner, images: Sequence[str]) -> list[Any]:
    """Pictures [H, W, 3] in bytes, resized as the bundle takes them."""
    if not images:
        return list(golden.read(captioner.bundle)[0])
    p = captioner.bundle.manifest.preprocess
    size, filter_ = (p.width, p.height), Image.Resampling.BICUBIC
    return [np.asarray(captioner.load(file).rgb.resize(size, filter_)) for file in gathering.gather(images)]


def _write(captioner: Captioner, pictures: Sequence[Any], folder: Path) -> None:
    manifest, runtime = captioner.bundle.manifest, captioner.runtime
    pixels = [golden.pixels(picture, manifest.preprocess) for picture in pictures]
    policies = [policy.to_json() for policy in manifest.policies().values()]
    exiting = bench.exiting_policy(captioner, pixels)[0].to_json()  # one that exits in any case
    if exiting not in policies:
        policies.append(exiting)
    entries = []
    for i, values in enumerate(pixels):
        runtime.set_pixels(values)
        for policy in policies:
            entries.append(conformance.record(i, policy, captioner.layout, manifest.search, runtime))
    with atomic_folder(folder, LOGS) as work:
        (work / PICTURES).mkdir()
        for i, picture in enumerate(pictures):
            Image.fromarray(picture).save(work / PICTURES / f"{i}.png")
        guide = resources.files("mue_edge").joinpath("conformance.md").read_text(encoding="utf-8")
        (work / GUIDE).write_text(guide, encoding="utf-8")
        conformance.write(work / LOGS, entries, manifest.plan_hash)


def _check(captioner: Captioner, pictures: Sequence[Any], path: Path) -> None:
    manifest, errors = captioner.bundle.manifest, [0.0]
    tolerance = SCORE_TOLERANCE.get(manifest.precision)
    entries = conformance.read(path, manifest.plan_hash)
    if not entries:
        raise InputFileError(f"{path} holds no logs")
    for number, entry in enumerate(entries, 1):
        where = f"{path}: log {number}"
        log = conformance.check(entry, captioner.layout, manifest.search, where)
        if not 0 <= entry.picture < len(pictures):
            raise InputFileError(
                f"{where} is of picture {entry.picture}, here are {len(pictures)}; give the kit's IMAGES"
            )
        captioner.runtime.set_pixels(golden.pixels(pictures[entry.picture], manifest.preprocess))
        policy = policy_from_json(entry.policy)
        outcome = replay(log, captioner.layout, manifest.search, captioner.runtime, policy)
        errors += outcome.score_errors
        if tolerance is not None and (not outcome.same_tokens or max(errors) > tolerance):
            raise VerificationError(
                f"{where}: with the same exits this machine's runtime gives "
                f"{'the same' if outcome.same_tokens else 'other'} tokens and scores that differ by up to "
                f"{max(errors):.1e} (allowed {tolerance:.0e})"
            )
    click.echo(f"{len(entries)} logs: every segment, exit and token follows from the scores that were read")
    promised = "" if tolerance else f"; {manifest.precision} promises no equality"
    click.echo(f"scores differ from this machine's by up to {max(errors):.1e}{promised}")
