"""`mue-edge demo`: caption held-out pictures at full depth and with early exits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mue_edge.loop.protocol import DECODER

if TYPE_CHECKING:
    from mue_edge.loop.policy import Policy
    from mue_edge.loop.protocol import Outcome
    from mue_edge.measuring.bench import TimeSample
    from mue_edge.sessions.captioner import Captioner

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
@click.option("--limit", type=click.IntRange(1), default=16, show_default=True,
              help="Only so many pictures.")  # fmt: skip
def command(out: str | None, keep: bool, limit: int) -> None:
    """Export the bundled model if its bundle is not there yet, and caption held-out pictures.

    Each picture is captioned at full depth and with early exits; times are CPU time at one thread.
    """
    from mue_edge import targets
    from mue_edge.apps import stickers
    from mue_edge.apps.cli import default_bundle
    from mue_edge.apps.cli.catalogue import DEFAULT
    from mue_edge.errors import UsageError
    from mue_edge.measuring import bench

    if keep and out is None:
        raise UsageError("--keep is for the bundle in --out DIR")
    place = default_bundle.cached(DEFAULT) if out is None else _made(Path(out), keep)
    every = stickers.demo_pictures()
    chosen = [every[i * len(every) // limit] for i in range(limit)] if limit < len(every) else every
    with targets.open(place, threads=1) as captioner:
        pixels = [captioner.pixels(path) for path, _ in chosen]
        policy, origin = bench.exiting_policy(captioner, pixels)
        shown = []
        for (path, reference), picture in zip(chosen, pixels):
            shown.append(_caption(captioner, policy, picture, path.stem, reference))
        layers = captioner.layout.depths()
    click.echo("\n".join([*_table(shown), "", *_summary(shown, layers, origin)]))
    name = out or DEFAULT
    click.echo(f"\nnext: mue-edge caption {name} PICTURE --trace; figures to rely on: mue-edge bench {name}")


def _made(place: Path, keep: bool) -> Path:
    """Make the bundle of the bundled model there, unless it is. Raises UsageError if another bundle is."""
    from mue_edge.apps.cli import default_bundle
    from mue_edge.apps.cli.catalogue import DEFAULT, bundled_model
    from mue_edge.bundle.folder import open_bundle
    from mue_edge.bundle.manifest import MANIFEST
    from mue_edge.errors import InputFileError, UsageError
    from mue_edge.files import sha256

    if keep and default_bundle.has(place, MANIFEST):
        return place
    try:
        there = open_bundle(place).manifest
    except InputFileError:
        there = None
    weights = bundled_model(DEFAULT) / "model.safetensors"
    if there is not None and there.model.get("sha256") == sha256(weights):
        return place
    if there is not None and there.name != DEFAULT:
        raise UsageError(
            f"{place} is a bundle of {there.name}, not of the bundled model; give another --out, or --keep "
            "to use this one"
        )
    default_bundle.make(place, DEFAULT)
    return place


def _caption(captioner: Captioner, policy: Policy, pixels: object, name: str, reference: str) -> DemoCaption:
    from mue_edge.loop.policy import Policy as AnyPolicy
    from mue_edge.loop.replay import run
    from mue_edge.measuring import bench

    def system(policy: Policy) -> Any:
        def once(i: int) -> Outcome:
            captioner.runtime.set_pixels(pixels)
            return run(captioner.layout, captioner.settings(), policy, captioner.runtime)

        return once

    full, early = system(AnyPolicy("never")), system(policy)
    outcomes = full(0), early(0)
    times = bench.interleave({"full": full, "early": early}, "full", range(ROUNDS), warm_up=1)
    texts = [captioner.tokenizer.caption(outcome.hypotheses[0].tokens) for outcome in outcomes]
    return DemoCaption(name, reference, texts[0], texts[1], outcomes[1], (times["early"], times["full"]))


def _table(shown: list[DemoCaption]) -> list[str]:
    from mue_edge.measuring import bench

    stack = next(iter(shown[0].outcome.depths))  # the picture's: a caption's text is constant
    head = ("picture", "people call it", "full depth", "early exit", f"{stack} layers", DECODER, "time")
    rows = [head]
    for s in shown:
        time = f"x {bench.ratios(*s.times).median:.2f}"
        early = "same" if s.early == s.full else s.early
        rows.append(
            (
                _cut(s.picture), _cut(s.reference), _cut(s.full), _cut(early),
                str(s.outcome.depths[stack]), f"{s.decoder_layers:.2f}", time,
            )
        )  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _cut(text: str, length: int = 32) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _summary(shown: list[DemoCaption], layers: dict[str, int], origin: str) -> list[str]:
    from mue_edge.measuring import bench

    n = len(shown)
    early = [sample for s in shown for sample in s.times[0]]
    full = [sample for s in shown for sample in s.times[1]]
    same = sum(s.early == s.full for s in shown)
    means = [f"{DECODER} {sum(s.decoder_layers for s in shown) / n:.2f} of {layers.pop(DECODER)}"]
    for stack, total in layers.items():
        means.insert(0, f"{stack} {sum(s.outcome.depths[stack] for s in shown) / n:.2f} of {total}")
    right_full = sum(s.full == s.reference for s in shown)
    right_early = sum(s.early == s.reference for s in shown)
    return [
        f"{same} of {n} captions are the same",
        f"named exactly as people do: {right_full} at full depth, {right_early} with early exits",
        f"mean layers run: {', '.join(means)}; time early / full: {bench.ratios(early, full)}",
        f"policy: {origin}",
    ]
