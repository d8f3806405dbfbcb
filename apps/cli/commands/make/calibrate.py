"""`mue-edge calibrate`: choose the policies that keep a budget, with a certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mue_edge import machine
from mue_edge.apps.cli.options.common import (
    PictureOptions,
    clock_option,
    image_size_option,
    json_option,
    model_argument,
    precision_option,
    target_option,
    threads_option,
)
from mue_edge.apps.cli.options.pixels import max_pixels_option
from mue_edge.apps.cli.options.sets import option, shared, takes
from mue_edge.apps.cli.options.types import Existing, parse_share
from mue_edge.apps.cli.terminal import progress, say
from mue_edge.errors import UsageError

if TYPE_CHECKING:
    from mue_edge.calibrate.certificate.claim import Claim
    from mue_edge.calibrate.data.samples import Samples
    from mue_edge.calibrate.metrics.cider import Frequencies
    from mue_edge.durations import Span

TRACES, PROFILE, BUNDLE, PLANS = "traces", "profile.json", "bundle", "plans"
PLAN_PICTURES = 100  # of the tuning pictures, on which plans are compared


@dataclass(frozen=True)
class CalibrationOptions(PictureOptions):
    """The command's options."""

    model: str = shared(model_argument)
    budget: str = option(
        "--budget", required=True, metavar="TIME", help="50ms, 0.05s, or 50% of full depth's time."
    )
    target: str = shared(target_option())
    max_drop: str = option(
        "--max-drop", default="3%", show_default=True, help="Of quality against full depth."
    )
    confidence: float = option("--confidence", default=0.9, show_default=True, help="Of the certificate.")
    share: str = option(
        "--share", default="95%", show_default=True, help="Of the captions, to keep the budget."
    )
    precision: str | None = shared(precision_option)
    image_size: str | None = shared(image_size_option)
    plan: str | None = option("--plan", metavar="FILE|NAME", help='A plan as JSON; or "per-layer".')
    plans: int | None = option(
        "--plans", type=click.IntRange(1), metavar="N", help="First try N plans: size, precision, cuts."
    )
    profile: Path | None = option("--profile", type=Existing(), help="Of the bundle, made by: profile.")
    device: str | None = option(
        "--device", metavar="NAME", help="Estimate the times of a device that is not at hand."
    )
    out: Path | None = option(
        "--out", type=click.Path(path_type=Path), metavar="DIR", help="[default: MODEL-TARGET-calibrated]"
    )
    threads: int = shared(threads_option(1))
    clock: str = shared(clock_option("wall"))
    seed: int = option("--seed", default=0, show_default=True)
    as_json: bool = shared(json_option("The record as JSON."))


@click.command("calibrate")
@takes(CalibrationOptions)
@max_pixels_option
def command(o: CalibrationOptions) -> None:
    """Find the policy that keeps the most quality of MODEL within a budget, and certify it.

    MODEL is a model folder, a bundled model's name, or a bundle, which then gets a new front of policies. The
    bundled model brings pictures to tune on and others to certify on; your own are split by a hash (pictures
    of one `cluster` stay together). Without captions, *consistency* with full depth is certified. Answers
    are kept in DIR: the same command goes on after an interruption.
    """
    span, claim = _claim(o)  # mistakes first: loading models takes seconds
    if o.clock == "cpu" and o.threads != 1:
        raise UsageError("--clock cpu adds up all threads' time, which is no latency: leave out --threads")
    from mue_edge import targets
    from mue_edge.apps.cli.calibration_pictures import to_calibrate_on
    from mue_edge.apps.cli.exporting import bundle_of
    from mue_edge.calibrate.plans import times
    from mue_edge.calibrate.policies import calibration
    from mue_edge.calibrate.policies.evaluator import PolicyEvaluator
    from mue_edge.calibrate.report import report_figures, result

    report_figures.require()
    targets.target(o.target)
    place, source = _place(o)
    whole, certify, known = to_calibrate_on(source, o.data, o.kind, o.images)
    (place / TRACES).mkdir(parents=True, exist_ok=True)
    tune = whole.at_most(o.tune)
    options = _plan(o)
    if o.plans is not None and tune.samples[0].source:
        raise UsageError("--plans searches plans for captions only; give a plan with --plan")
    if o.plans is not None:
        span, options = _searched(o, place, source, span, tune, known)
    bundle = bundle_of(source, place / BUNDLE, o.target, options, Path(o.model).resolve().name)
    with targets.open_session(bundle.path, threads=o.threads) as captioner:
        asked = times.ProfileRequest(place / PROFILE, o.profile, o.device, o.threads, o.clock)
        profile, conditions = times.obtain(captioner, tune, asked, progress, say)
        evaluator = PolicyEvaluator(
            captioner, profile, place / TRACES, known, progress, o.workers or machine.cores(), o.clock
        )
        found = calibration.calibrate(evaluator, tune, certify, conditions, span, claim, say)
        lines = result.write(place, found, _asked(o), calibration.live_times(found))
    if o.as_json:
        click.echo((place / "calibration.json").read_text(encoding="utf-8"), nl=False)
        return
    for line in lines:
        click.echo(line)


def _claim(o: CalibrationOptions) -> tuple[Span, Callable[[float, str], Claim]]:
    from mue_edge import durations
    from mue_edge.calibrate.certificate.claim import Claim

    span = durations.parse(o.budget)
    drop, kept = parse_share("--max-drop", o.max_drop), parse_share("--share", o.share)
    Claim(drop, o.confidence, share=kept)

    def claim(budget: float, loss: str) -> Claim:
        return Claim(drop, o.confidence, loss, budget, kept, o.seed)

    return span, claim


def _place(o: CalibrationOptions) -> tuple[Path, Path]:
    """The output folder and MODEL's folder. Raises UsageError for a folder of something else."""
    from mue_edge.apps.cli.catalogue import resolve_model
    from mue_edge.bundle.manifest import MANIFEST

    name = Path(o.model).resolve().name
    given = (Path(o.model) / MANIFEST).is_file()
    place = o.out or Path(f"{name}-calibrated" if given else f"{name}-{o.target}-calibrated")
    if place.exists() and any(place.iterdir()) and not (place / TRACES).is_dir():
        raise UsageError(f"{place} is there and holds no calibration; give another --out, or remove it")
    named = ("precision", "image_size", "plan", "plans")
    if given and (fixed := [name for name in named if getattr(o, name) is not None]):
        raise UsageError(f"{o.model} is a bundle: its {', '.join(fixed)} cannot be changed; export again")
    return place, Path(o.model) if given else resolve_model(o.model)


def _plan(o: CalibrationOptions) -> dict[str, Any]:
    """The plan's options that the command line names."""
    from mue_edge.apps.cli.exporting import parse_size
    from mue_edge.export import room

    options: dict[str, Any] = room()[1].read(o.plan) if o.plan else {}
    options |= ({"precision": o.precision} if o.precision else {}) | parse_size(o.image_size)
    if options and o.plans is not None:
        raise UsageError(
            "--plans searches size, precision and cuts: leave out those that you name, or --plans"
        )
    return options


def _searched(
    o: CalibrationOptions, place: Path, source: Path, span: Span, tune: Samples, known: Frequencies | None
) -> tuple[Span, dict[str, Any]]:
    """The budget in seconds and the options of the plan that keeps most quality within it.

    Raises CannotBeMetError when no plan keeps the budget."""
    from mue_edge import models, targets
    from mue_edge.calibrate.plans.plan_search import search_plans
    from mue_edge.calibrate.plans.plan_space import around
    from mue_edge.calibrate.plans.plan_trial import Bench
    from mue_edge.durations import Span
    from mue_edge.errors import CannotBeMetError

    assert o.plans is not None
    part = tune.at_most(PLAN_PICTURES)
    bench = Bench(source, o.target, part, known, progress, o.clock, workers=o.workers or machine.cores())
    size = models.describe_folder(source).preprocess
    space = around((size.height, size.width), targets.target(o.target).precisions)
    found = search_plans(bench, space, span, place / PLANS, progress, o.plans, o.seed)
    if found.best is None:
        least = min(f.point.tail for f in found.front)
        raise CannotBeMetError(
            f"none of {len(found.trials)} plans keeps the budget: the least is {1000 * least:.3g} ms; "
            "give a larger --budget or more --plans"
        )
    say(f"best of {len(found.trials)} plans: {found.best.trial.options}")
    return Span(seconds=found.budget), dict(found.best.trial.options)


def _asked(o: CalibrationOptions) -> dict[str, Any]:
    """The options as a record."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(o).items()
        if value is not None and name != "as_json"
    }
