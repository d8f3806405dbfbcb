"""`mue-edge profile`: time every segment of a bundle on this machine."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

import mue_edge
from mue_edge.apps.cli.exporting import golden_pixels
from mue_edge.apps.cli.options import NewFile, common
from mue_edge.apps.cli.terminal import bar, table
from mue_edge.errors import UsageError
from mue_edge.inputs import gathering
from mue_edge.measuring import measure, profile
from mue_edge.measuring.profile import Profile
from mue_edge.targets import choice
from mue_edge.targets.verify import signoff_path


@click.command("profile")
@common.bundle_argument
@common.images_argument
@common.max_pixels_option
@common.threads_option()
@common.clock_option("wall")
@click.option("--captions", type=click.IntRange(200, 100_000), default=300)
@click.option("--out", type=NewFile(), help="[default: BUNDLE.profile.json]")
@common.json_option("The profile as JSON.")
def command(
    bundle: str,
    images: tuple[str, ...],
    threads: int | None,
    clock: str,
    captions: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Time every segment of a BUNDLE here, on IMAGES or its golden pictures.

    Captions of several depths take turns; as many as --captions fit the costs, half as many more check
    them: how far predicted and live latency differ is printed and kept.
    """
    if clock == "cpu" and threads not in (None, 1):
        raise UsageError("--clock cpu adds up all threads' time, which is no latency: leave out --threads")
    with mue_edge.open(bundle, threads=1 if clock == "cpu" else threads) as captioner:
        path = out or profile.path_of(Path(bundle))
        if images:
            inputs = measure.network_inputs(captioner, gathering.gather(images))
        else:
            inputs = measure.NetworkInputs(golden_pixels(captioner.bundle), None)
        with bar("captions", captions + captions // 2) as step:
            made, full_depth = measure.measure(captioner, inputs, captions, clock=clock, step=step)
    profile.write(path, made)
    chosen = choice.keep(captioner.bundle, signoff_path(Path(bundle)), path)
    if as_json:
        click.echo(path.read_text(encoding="utf-8"), nl=False)
    else:
        click.echo("\n".join(_text(made, full_depth)))
    for line in (*choice.lines(chosen), f"wrote {path}; next: mue-edge calibrate --budget 50%"):
        click.echo(line, err=as_json)


def _text(p: Profile, full_depth: Sequence[str]) -> Iterator[str]:
    assert p.noise is not None and p.error is not None
    load = ", ".join(f"{value:.1f}" for value in p.load) or "unknown"
    clocks = ", ".join(f"{k} {v}" for k, v in p.clocks.items())
    versions = ", ".join(f"{k} {v}" for k, v in p.versions.items())
    yield f"{p.bundle} on {p.target}, {p.precision}, {p.label}"
    yield f"{clocks}; load average {load}; {versions}"
    yield from ("", *_segments(p, full_depth), "")
    for kind, check in p.checks.items():
        yield (
            f"{kind:<10}  predicted {check.predicted * 1e3:8.2f} ms, live {check.live * 1e3:8.2f} ms "
            f"({check.captions} captions, off by {check.predicted / check.live - 1:+.1%})"
        )
    yield (
        f"a single caption is off by {p.error:.1%} (median); live / sum of medians: "
        f"{p.noise.p50:.3f}, 95th percentile {p.noise.p95:.3f}"
    )
    if p.preprocess_seconds is not None:
        yield f"reading and resizing a picture, not included: {p.preprocess_seconds * 1e3:.2f} ms"
    if p.error > profile.RESTLESS:
        yield (
            "RESTLESS: the machine took turns with other work. Medians of segments still compare policies; "
            "captions' times do not hold. Repeat when it is quiet"
            + (", or with --clock cpu" if p.clock == "wall" else "")
        )


def _segments(p: Profile, full_depth: Sequence[str]) -> list[str]:
    """A line a kind of segment: of one call, the mean over the kind's segments of median and p95."""
    calls = Counter(run.partition(".")[0] for run in full_depth)
    total = p.predict(full_depth)
    rows = [("segment", "calls at full depth", "µs a call", "p95", "share of time")]
    for kind in dict.fromkeys(name.partition(".")[0] for name in p.segments):
        times = [time for name, time in p.segments.items() if name.partition(".")[0] == kind]
        median, p95 = (statistics.fmean(getattr(t, name) for t in times) for name in ("median", "p95"))
        share = sum(p.segments[run].median for run in full_depth if run.partition(".")[0] == kind) / total
        rows.append((kind, str(calls[kind]), f"{median * 1e6:.0f}", f"{p95 * 1e6:.0f}", f"{share:.1%}"))
    loop = p.loop_seconds_per_call
    share = loop * len(full_depth) / total
    rows.append(("host loop", str(len(full_depth)), f"{loop * 1e6:.1f}", "", f"{share:.1%}"))
    rows.append(("a caption", "1", f"{p.caption_seconds * 1e6:.1f}", "", f"{p.caption_seconds / total:.1%}"))
    return table(rows, right=True)
