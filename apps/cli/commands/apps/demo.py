"""`mue-edge demo`: caption held-out pictures at full depth and with early exits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from mue_edge import targets
from mue_edge.apps import stickers
from mue_edge.apps.cli import default_bundle
from mue_edge.apps.cli.catalogue import DEFAULT, bundled_model
from mue_edge.apps.cli.default_bundle import cached
from mue_edge.apps.cli.options.common import POSITIVE
from mue_edge.apps.cli.terminal import table
from mue_edge.bundle.folder import open_bundle
from mue_edge.bundle.manifest import MANIFEST
from mue_edge.errors import InputFileError, UsageError
from mue_edge.files import sha256
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import DECODER, Outcome
from mue_edge.loop.replay import run
from mue_edge.measuring import bench
from mue_edge.measuring.bench import TimeSample
from mue_edge.reading import is_file
from mue_edge.sessions.captioner import FULL, Captioner

ROUNDS = 3


@dataclass(frozen=True)
class DemoCaption:
    """One picture captioned in both ways; times are paired samples of the two."""

    picture: str
    reference: str
    full: str
    early: str
    outcome: Outcome
    times: tuple[list[TimeSample], list[TimeSample]]

    @property
    def decoder_layers(self) -> float:
        return sum(step.depth for step in self.outcome.steps) / len(self.outcome.steps)


@click.command("demo")
@click.option("--out", metavar="DIR", help="Where its bundle is, or is made.  [default: your cache]")
@click.option("--keep", is_flag=True, help="Use the bundle in DIR even if another model made it.")
@click.option("--limit", type=POSITIVE, default=16, help="Only so many pictures.")
def command(out: str | None, keep: bool, limit: int) -> None:
    """Export the bundled model if its bundle is not there yet, and caption held-out pictures.

    Each picture is captioned at full depth and with early exits; times are CPU time at one thread.
    """
    if keep and out is None:
        raise UsageError("--keep is for the bundle in --out DIR")
    folder = cached(DEFAULT) if out is None else _made(Path(out), keep)
    every = stickers.demo_pictures()
    chosen = [every[i * len(every) // limit] for i in range(limit)] if limit < len(every) else every
    with targets.open(folder, threads=1) as captioner:
        pixels = [captioner.pixels(path) for path, _ in chosen]
        policy, origin = bench.exiting_policy(captioner, pixels)
        captions = [
            _caption(captioner, policy, picture, path.stem, reference)
            for (path, reference), picture in zip(chosen, pixels)
        ]
        layers = captioner.layout.depths()
    click.echo("\n".join([*_table(captions), "", *_summary(captions, layers, origin)]))
    name = out or DEFAULT
    click.echo(f"\nnext: mue-edge caption {name} PICTURE --trace; figures to rely on: mue-edge bench {name}")


def _made(folder: Path, keep: bool) -> Path:
    """Make the bundle of the bundled model there, unless it is. Raises UsageError if another bundle is."""
    if keep and is_file(folder / MANIFEST):
        return folder
    try:
        manifest = open_bundle(folder).manifest
    except InputFileError:
        manifest = None
    weights = bundled_model(DEFAULT) / "model.safetensors"
    if manifest is not None and manifest.model.get("sha256") == sha256(weights):
        return folder
    if manifest is not None and manifest.name != DEFAULT:
        raise UsageError(
            f"{folder} is a bundle of {manifest.name}, not of the bundled model; give another --out, or "
            "--keep to use this one"
        )
    default_bundle.make(folder, DEFAULT)
    return folder


def _caption(captioner: Captioner, policy: Policy, pixels: object, name: str, reference: str) -> DemoCaption:
    def full(i: int) -> Outcome:
        captioner.runtime.set_pixels(pixels)
        return run(captioner.layout, captioner.settings(), FULL, captioner.runtime)

    def early(i: int) -> Outcome:
        captioner.runtime.set_pixels(pixels)
        return run(captioner.layout, captioner.settings(), policy, captioner.runtime)

    outcomes = full(0), early(0)
    times = bench.interleave({"full": full, "early": early}, "full", range(ROUNDS), warm_up=1)
    texts = [captioner.tokenizer.caption(outcome.hypotheses[0].tokens) for outcome in outcomes]
    return DemoCaption(name, reference, texts[0], texts[1], outcomes[1], (times["early"], times["full"]))


def _table(captions: list[DemoCaption]) -> list[str]:
    stack = next(iter(captions[0].outcome.depths))  # the picture's: a caption's text is constant
    rows = [("picture", "people call it", "full depth", "early exit", f"{stack} layers", DECODER, "time")]
    for c in captions:
        texts = (c.picture, c.reference, c.full, "same" if c.early == c.full else c.early)
        picture, reference, full, early = (t if len(t) <= 32 else f"{t[:31]}…" for t in texts)
        time = f"x {bench.ratios(*c.times).median:.2f}"
        depth = str(c.outcome.depths[stack])
        rows.append((picture, reference, full, early, depth, f"{c.decoder_layers:.2f}", time))
    return table(rows)


def _summary(captions: list[DemoCaption], layers: dict[str, int], origin: str) -> list[str]:
    n = len(captions)
    early = [sample for c in captions for sample in c.times[0]]
    full = [sample for c in captions for sample in c.times[1]]
    same = sum(c.early == c.full for c in captions)
    means = [f"{DECODER} {sum(c.decoder_layers for c in captions) / n:.2f} of {layers.pop(DECODER)}"]
    for stack, total in layers.items():
        means.insert(0, f"{stack} {sum(c.outcome.depths[stack] for c in captions) / n:.2f} of {total}")
    right_full = sum(c.full == c.reference for c in captions)
    right_early = sum(c.early == c.reference for c in captions)
    return [
        f"{same} of {n} captions are the same",
        f"named exactly as people do: {right_full} at full depth, {right_early} with early exits",
        f"mean layers run: {', '.join(means)}; time early / full: {bench.ratios(early, full)}",
        f"policy: {origin}",
    ]
