"""`mue-edge calibrate`: choose the policies that keep a budget, with a certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mue_edge import durations, machine, models, targets
from mue_edge.apps.cli import exporting
from mue_edge.apps.cli.exporting import parse_size
from mue_edge.apps.cli.options import Existing, common, option, parse_share, shared, takes
from mue_edge.apps.cli.terminal import progress, say
from mue_edge.bundle.manifest import MANIFEST
from mue_edge.durations import Span
from mue_edge.errors import CannotBeMetError, UsageError
from mue_edge.export import room

if TYPE_CHECKING:
    from mue_edge.calibrate.certificate.claim import Claim
    from mue_edge.calibrate.data.samples import Samples
    from mue_edge.calibrate.metrics.cider import Frequencies

PLANS = "plans"
PLAN_PICTURES = 100  # of the tuning pictures, on which plans are compared


@dataclass(frozen=True)
class CalibrationOptions(common.PictureOptions):
    model: str = shared(common.model_argument)
    budget: str = option("50ms, 0.05s, or 50% of full depth's time.", required=True, metavar="TIME")
    target: str = shared(common.target_option())
    max_drop: str = option("Of quality against full depth.", default="3%")
    confidence: float = option("Of the certificate.", default=0.9)
    share: str = option("Of the captions, to keep the budget.", default="95%")
    precision: str | None = shared(common.precision_option)
    image_size: str | None = shared(common.image_size_option)
    plan: str | None = option('A plan as JSON; or "per-layer".', metavar="FILE|NAME")
    plans: int | None = option("First try N plans: size, precision, cuts.", type=common.POSITIVE, metavar="N")
    profile: Path | None = option("Of the bundle, made by: profile.", type=Existing())
    device: str | None = option("Estimate the times of a device that is not at hand.", metavar="NAME")
    out: Path | None = shared(common.out_folder("MODEL-TARGET-calibrated"))
    threads: int = shared(common.threads_option(1))
    clock: str = shared(common.clock_option("wall"))
    seed: int = option(default=0)
    as_json: bool = shared(common.json_option("The record as JSON."))


@click.command("calibrate")
@takes(CalibrationOptions)
@common.max_pixels_option
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
    from mue_edge.apps.cli.calibration_pictures import to_calibrate_on
    from mue_edge.calibrate.plans.times import ProfileRequest
    from mue_edge.calibrate.policies import calibration
    from mue_edge.calibrate.report import report_figures, result

    report_figures.require()
    targets.target(o.target)
    name = Path(o.model).resolve().name
    folder, source = _folders(o, name)
    whole, certify, frequencies = to_calibrate_on(source, o.data, o.kind, o.images)
    (folder / exporting.TRACES).mkdir(parents=True, exist_ok=True)
    tune = whole.at_most(o.tune)
    options = _plan(o)
    if o.plans is not None and tune.samples[0].source:
        raise UsageError("--plans searches plans for captions only; give a plan with --plan")
    if o.plans is not None:
        span, options = _search_plans(o, o.plans, folder, source, span, tune, frequencies)
    bundle = exporting.bundle_of(source, folder / exporting.BUNDLE, o.target, options, name)
    request = ProfileRequest(folder / exporting.PROFILE, o.profile, o.device, o.threads, o.clock)
    with exporting.policy_evaluator(bundle, folder, request, tune, frequencies, o.workers) as (evaluator, conditions):
        calibrated = calibration.calibrate(evaluator, tune, certify, conditions, span, claim, say)
        lines = result.write(folder, calibrated, _record(o), calibration.live_times(calibrated))
    if o.as_json:
        click.echo((folder / "calibration.json").read_text(encoding="utf-8"), nl=False)
    else:
        click.echo("\n".join(lines))


def _claim(o: CalibrationOptions) -> tuple[Span, Callable[[float, str], Claim]]:
    """The budget, and a function from its seconds and a loss to what is to be certified."""
    from mue_edge.calibrate.certificate.claim import Claim

    span = durations.parse(o.budget)
    drop, share = parse_share("--max-drop", o.max_drop), parse_share("--share", o.share)
    Claim(drop, o.confidence, share=share)  # raises what is wrong with them
    return span, lambda budget, loss: Claim(drop, o.confidence, loss, budget, share, o.seed)


def _folders(o: CalibrationOptions, name: str) -> tuple[Path, Path]:
    """The output folder and MODEL's folder. Raises UsageError for a folder of something else."""
    is_bundle = (Path(o.model) / MANIFEST).is_file()
    folder = o.out or Path(f"{name}-calibrated" if is_bundle else f"{name}-{o.target}-calibrated")
    exporting.check_output(folder, exporting.TRACES, "calibration")
    fixed = [key for key in ("precision", "image_size", "plan", "plans") if getattr(o, key) is not None]
    if is_bundle and fixed:
        raise UsageError(f"{o.model} is a bundle: its {', '.join(fixed)} cannot be changed; export again")
    return folder, exporting.resolve_source(o.model)


def _plan(o: CalibrationOptions) -> dict[str, Any]:
    """The plan's options that the command line names."""
    options: dict[str, Any] = room()[1].read(o.plan) if o.plan else {}
    options |= ({"precision": o.precision} if o.precision else {}) | parse_size(o.image_size)
    if options and o.plans is not None:
        raise UsageError("--plans searches size, precision and cuts: leave out those that you name, or --plans")
    return options


def _search_plans(
    o: CalibrationOptions,
    trials: int,
    folder: Path,
    source: Path,
    span: Span,
    tune: Samples,
    frequencies: Frequencies | None,
) -> tuple[Span, dict[str, Any]]:
    """The budget in seconds and the options of the plan that keeps most quality within it.

    Raises CannotBeMetError when no plan keeps the budget."""
    from mue_edge.calibrate.plans.plan_search import search_plans
    from mue_edge.calibrate.plans.plan_space import around
    from mue_edge.calibrate.plans.plan_trial import Bench

    part, workers = tune.at_most(PLAN_PICTURES), o.workers or machine.cores()
    bench = Bench(source, o.target, part, frequencies, progress, o.clock, workers=workers)
    size = models.describe_folder(source).preprocess
    space = around((size.height, size.width), targets.target(o.target).precisions)
    result = search_plans(bench, space, span, folder / PLANS, progress, trials, o.seed)
    if result.best is None:
        least = min(f.point.tail for f in result.front)
        raise CannotBeMetError(
            f"none of {len(result.trials)} plans keeps the budget: the least is {1000 * least:.3g} ms; "
            "give a larger --budget or more --plans"
        )
    say(f"best of {len(result.trials)} plans: {result.best.trial.options}")
    return Span(seconds=result.budget), dict(result.best.trial.options)


def _record(o: CalibrationOptions) -> dict[str, Any]:
    """The options as a record."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(o).items()
        if value is not None and name != "as_json"
    }
