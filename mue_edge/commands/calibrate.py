"""`mue-edge calibrate`: the policy that keeps the most quality within a latency budget, and its proof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mue_edge import machine
from mue_edge.completion import MODELS, TARGETS
from mue_edge.errors import UsageError
from mue_edge.option_set import Existing
from mue_edge.pictures_options import pictures_options
from mue_edge.terminal import export_progress, progress, say

if TYPE_CHECKING:
    from mue_edge.bundle import Bundle
    from mue_edge.calibrate.certificate.claim import Claim
    from mue_edge.calibrate.data.samples import Samples
    from mue_edge.calibrate.metrics.cider import Frequencies
    from mue_edge.durations import Span

DEFAULT_MODEL = "stickers"
TRACES, PROFILE, BUNDLE, PLANS = "traces", "profile.json", "bundle", "plans"
PLAN_PICTURES = 100  # of the tuning pictures, on which plans are compared


@dataclass(frozen=True)
class _Options:
    """The command's options, by their names."""

    model: str
    budget: str
    target: str
    data: str | None
    kind: str | None
    images: Path | None
    max_drop: str
    confidence: float
    share: str
    precision: str | None
    image_size: str | None
    plan: str | None
    plans: int | None
    profile: Path | None
    device: str | None
    out: Path | None
    threads: int
    clock: str
    workers: int | None
    tune: int
    seed: int
    as_json: bool


@click.command("calibrate")
@click.argument("model", shell_complete=MODELS, default=DEFAULT_MODEL)
@click.option("--budget", required=True, metavar="TIME", help="50ms, 0.05s, or 50% of full depth's time.")
@click.option(
    "--target",
    shell_complete=TARGETS,
    default="host",
    show_default=True,
    help="What to export for; see: targets.",
)
@pictures_options
@click.option("--max-drop", default="3%", show_default=True, help="Of quality against full depth.")
@click.option("--confidence", default=0.9, show_default=True, help="Of the certificate.")
@click.option("--share", default="95%", show_default=True, help="Of the captions, to keep the budget.")
@click.option("--precision", help="fp32, int8: what the target has.")
@click.option("--image-size", metavar="N|HxW", help="Size of the network's input in pixels.")
@click.option("--plan", metavar="FILE|NAME", help='A plan as JSON; or "per-layer".')
@click.option(
    "--plans", type=click.IntRange(1), metavar="N", help="First try N plans: size, precision, cuts."
)
@click.option("--profile", type=Existing(), help="Of the bundle, made by: profile.")
@click.option("--device", metavar="NAME", help="Estimate the times of a device that is not at hand.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="[default: MODEL-TARGET-calibrated]"
)
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Of the runtime.")
@click.option(
    "--clock",
    type=click.Choice(["wall", "cpu"]),
    default="wall",
    show_default=True,
    help="cpu: one thread's CPU time, on a machine that others use too.",
)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The record as JSON.")
def command(**options: Any) -> None:
    """Find the policy that keeps the most quality of MODEL within a budget, and certify it.

    MODEL is a model folder, a bundled model's name, or a bundle, which then gets a new front of policies. The
    bundled model brings pictures to tune on and others to certify on; your own are split by a hash (pictures
    of one `cluster` stay together). Without captions, *consistency* with full depth is certified. Answers
    are kept in DIR: the same command goes on after an interruption.
    """
    o = _Options(**options)
    span, claim = _claim(o)  # mistakes first: loading models takes seconds
    if o.clock == "cpu" and o.threads != 1:
        raise UsageError("--clock cpu adds up all threads' time, which is no latency: leave out --threads")
    from mue_edge import targets
    from mue_edge.apps.calibration_pictures import to_calibrate_on
    from mue_edge.calibrate.plans import times
    from mue_edge.calibrate.policies import calibration
    from mue_edge.calibrate.policies.setting import Setting
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
    bundle = _bundle(o, place, source, options)
    with targets.open_session(bundle.path, threads=o.threads) as captioner:
        asked = times.Asked(place / PROFILE, o.profile, o.device, o.threads, o.clock)
        profile, conditions = times.known(captioner, tune, asked, progress, say)
        setting = Setting(
            captioner, profile, tune, certify, place / TRACES, known, conditions, progress,
            o.workers or machine.cores(), o.clock,
        )  # fmt: skip
        found = calibration.calibrate(setting, span, claim, say)
        live = calibration.live_times(setting, found)
        lines = result.write(place, setting, found, _asked(o), live)
    if o.as_json:
        click.echo((place / "calibration.json").read_text(encoding="utf-8"), nl=False)
        return
    for line in lines:
        click.echo(line)


def _claim(o: _Options) -> tuple[Span, Callable[[float, str], Claim]]:
    from mue_edge import durations
    from mue_edge.calibrate.certificate.claim import Claim

    span = durations.parse(o.budget)
    drop, share = (_fraction(name, text) for name, text in (("--max-drop", o.max_drop), ("--share", o.share)))
    Claim(drop, o.confidence, share=share)

    def claim(budget: float, loss: str) -> Claim:
        return Claim(drop, o.confidence, loss, budget, share, o.seed)

    return span, claim


def _fraction(name: str, text: str) -> float:
    """`3%` or `0.03`."""
    try:
        value = float(text.strip().removesuffix("%")) / (100 if "%" in text else 1)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise UsageError(f"{name} {text!r} is no share between 0 and 1; write for instance 3% or 0.03")
    return value


def _place(o: _Options) -> tuple[Path, Path]:
    """The output folder and MODEL's folder. Raises UsageError for a folder of something else."""
    from mue_edge.apps.catalogue import resolve_model
    from mue_edge.bundle import MANIFEST

    name = Path(o.model).resolve().name
    given = (Path(o.model) / MANIFEST).is_file()
    place = o.out or Path(f"{name}-calibrated" if given else f"{name}-{o.target}-calibrated")
    if place.exists() and any(place.iterdir()) and not (place / TRACES).is_dir():
        raise UsageError(f"{place} is there and holds no calibration; give another --out, or remove it")
    named = ("precision", "image_size", "plan", "plans")
    if given and (fixed := [name for name in named if getattr(o, name) is not None]):
        raise UsageError(f"{o.model} is a bundle: its {', '.join(fixed)} cannot be changed; export again")
    return place, Path(o.model) if given else resolve_model(o.model)


def _plan(o: _Options) -> dict[str, Any]:
    """The plan's options that the command line names."""
    from mue_edge.commands.export import parse_size
    from mue_edge.export import room

    options: dict[str, Any] = room()[1].read(o.plan) if o.plan else {}
    options |= ({"precision": o.precision} if o.precision else {}) | parse_size(o.image_size)
    if options and o.plans is not None:
        raise UsageError(
            "--plans searches size, precision and cuts: leave out those that you name, or --plans"
        )
    return options


def _searched(
    o: _Options, place: Path, source: Path, span: Span, tune: Samples, known: Frequencies | None
) -> tuple[Span, dict[str, Any]]:
    """The budget in seconds and the options of the plan that keeps most quality within it.

    Raises CannotBeMetError when no plan keeps the budget."""
    from mue_edge.calibrate.plans.plan_search import search_plans
    from mue_edge.durations import Span
    from mue_edge.errors import CannotBeMetError

    assert o.plans is not None
    found = search_plans(
        source, o.target, tune, known, span, trials=o.plans, seed=o.seed, workdir=place / PLANS,
        clock=o.clock, progress=progress, subset=PLAN_PICTURES, workers=o.workers or machine.cores(),
    )  # fmt: skip
    if found.best is None:
        least = min(f.point.tail for f in found.front)
        raise CannotBeMetError(
            f"none of {len(found.trials)} plans keeps the budget: the least is {1000 * least:.3g} ms; "
            "give a larger --budget or more --plans"
        )
    say(f"best of {len(found.trials)} plans: {found.best.trial.options}")
    return Span(seconds=found.budget), dict(found.best.trial.options)


def _bundle(o: _Options, place: Path, source: Path, options: dict[str, Any]) -> Bundle:
    """MODEL itself, the bundle of an interrupted run, or a new one."""
    from mue_edge.bundle import MANIFEST, open_bundle
    from mue_edge.export import room
    from mue_edge.files import sha256

    if (source / MANIFEST).is_file():
        return open_bundle(source)
    kept, name = place / BUNDLE, Path(o.model).resolve().name
    if (kept / MANIFEST).is_file():
        bundle = open_bundle(kept)
        m = bundle.manifest
        same = all(m.plan.get(key) == value for key, value in options.items() if key != "ends")
        if same and m.target == o.target and m.model.get("sha256") == sha256(source / "model.safetensors"):
            return bundle
        raise UsageError(
            f"{kept} was made from another model, target or plan; give another --out, or remove {place}"
        )
    say(f"exporting {name} for {o.target}")
    made: Bundle = room()[0].export(source, kept, o.target, options, export_progress(), name).bundle
    return made


def _asked(o: _Options) -> dict[str, Any]:
    """The options as a record."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(o).items()
        if value is not None and name != "as_json"
    }
