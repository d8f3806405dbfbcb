"""`mue-edge compare`: compare every exit rule on one model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mue_edge import machine
from mue_edge.apps.cli.options.common import (
    PictureOptions,
    clock_option,
    json_option,
    model_argument,
    target_option,
)
from mue_edge.apps.cli.options.pixels import max_pixels_option
from mue_edge.apps.cli.options.sets import option, shared, takes
from mue_edge.apps.cli.options.types import parse_share
from mue_edge.apps.cli.terminal import progress, say
from mue_edge.errors import UsageError

if TYPE_CHECKING:
    from mue_edge.calibrate.data.samples import Samples
    from mue_edge.calibrate.metrics.cider import Frequencies
    from mue_edge.calibrate.policies.comparison import Comparison, Entrant
    from mue_edge.calibrate.policies.evaluator import PolicyEvaluator

RECORD, PAGE, CHART = "comparison.json", "comparison.md", "comparison.svg"


@dataclass(frozen=True)
class ComparisonOptions(PictureOptions):
    """The command's options."""

    model: str = shared(model_argument)
    static: tuple[Path, ...] = option(
        "--static",
        type=click.Path(path_type=Path, exists=True),
        multiple=True,
        help="A smaller model's folder, to compare with; may be repeated.",
    )
    own: tuple[str, ...] = option(
        "--own",
        metavar="RULE[,RULE]=DIR",
        multiple=True,
        help="The same network trained as these rules' papers train it; may be repeated.",
    )
    target: str = shared(target_option())
    drops: str = option(
        "--drops", default="1%,3%,5%", show_default=True, help="Of quality: least time at each."
    )
    savings: str = option(
        "--savings", default="50%,60%", show_default=True, help="Of time: best quality at each."
    )
    seeds: int = option(
        "--seeds", type=click.IntRange(1), default=3, show_default=True, help="Draws of the tuning pictures."
    )
    limit: int | None = option(
        "--limit", type=click.IntRange(20), help="Only so many pictures of either part, to try it."
    )
    out: Path | None = option(
        "--out", type=click.Path(path_type=Path), metavar="DIR", help="[default: MODEL-TARGET-compared]"
    )
    clock: str = shared(clock_option("cpu"))
    as_json: bool = shared(json_option("The record as JSON."))


@click.command("compare")
@takes(ComparisonOptions)
@max_pixels_option
def command(o: ComparisonOptions) -> None:
    """Compare every exit method on MODEL: a model folder, a bundled model's name, or a bundle.

    Each rule chooses on tuning pictures, for the same losses of quality and savings of time, and is judged on
    others: quality, layers, multiply-adds, and the time of captions in turns. Fixed depths and --static
    models are the first baselines. Heads that MODEL lacks are trained first, on the tuning pictures. Any of
    the folders may hold trainings with several seeds as seed-0, seed-1, …. Answers are kept in DIR: the same
    command goes on after an interruption.
    """
    drops = [parse_share("--drops", part.strip()) for part in o.drops.split(",")]
    savings = [parse_share("--savings", part.strip()) for part in o.savings.split(",")]
    from mue_edge import targets
    from mue_edge.apps.cli.calibration_pictures import to_calibrate_on
    from mue_edge.calibrate.policies import candidates, comparison, signals
    from mue_edge.calibrate.report import comparison_page
    from mue_edge.files import atomic_write
    from mue_edge.rules import RULES

    targets.target(o.target)
    own = dict(_own(text) for text in o.own)
    models = {"": _seeds(Path(o.model) if Path(o.model).is_dir() else _source(o.model))}
    models |= {_called(folder): _seeds(folder) for folder in (*o.static, *own)}
    rules = {_called(folder): trained_for for folder, trained_for in own.items()}
    whole, held, known = to_calibrate_on(models[""][0], o.data, o.kind, o.images)
    tune = whole.at_most(o.tune)
    if o.limit is not None:
        tune, held = (part.rows(range(min(o.limit, len(part))), part.source) for part in (tune, held))
    name = Path(o.model).resolve().name
    place = o.out or Path(f"{name}-{o.target}-compared")
    _claim(place)
    with ExitStack() as stack:
        entrants: dict[str, list[Entrant]] = {}
        for called, folders in models.items():
            kind = _Kind(called, None if called and called not in rules else rules.get(called, tuple(RULES)))
            for seed, folder in enumerate(folders):
                there = place / (called or "exits") / (f"seed-{seed}" if len(folders) > 1 else "")
                model = _with_heads(folder, there / "model", tune, seed) if kind.rules else folder
                evaluator = stack.enter_context(_opened(o, model, there, tune, known))
                entrants.setdefault(called, []).append(_entrant(kind, evaluator, tune))
        aims = [comparison.Aim(drop=d) for d in drops] + [comparison.Aim(saved=s) for s in savings]
        by_seed = [[each[seed % len(each)] for each in entrants.values()] for seed in range(o.seeds)]
        first, main = by_seed[0][0], by_seed[0][0].evaluator
        traced = main.decisions(tune)  # kept since its candidates were made
        policies = [first.outcomes[0].policy, *candidates.by_modality(traced)]
        modalities = main.evaluate(policies, tune, "one modality, the other, both")[1:]
        found = comparison.compare(by_seed, aims, tune, held, modalities)
        told = signals.signals(main.session.layout, traced, first.outcomes[0], first.outcomes)
    metrics, notes = _metrics(found, held, main.loss(tune))
    notes += _missing(first)
    for note in notes:
        say(f"note: {note}")
    record = comparison_page.record(found, metrics, told) | {
        "model": name, "target": o.target, "seeds": o.seeds,
        "trainings": {called or name: len(each) for called, each in entrants.items()},
        "clock": o.clock, "device": machine.device(), "load": round(machine.load_average(), 1),
        "quality": main.loss(tune), "tune": {"source": tune.source, "pictures": len(tune)},
        "held": {"source": held.source, "pictures": len(held), "clusters": len(set(held.clusters))},
        "candidates": sum(len(e.outcomes) for each in entrants.values() for e in each), "notes": notes,
    }  # fmt: skip
    parts = ("page", "own", "modalities", "signals")
    text = "\n".join(getattr(comparison_page, part)(record) for part in parts)
    atomic_write(place / RECORD, json.dumps(record, indent=1) + "\n")
    atomic_write(place / PAGE, text)
    atomic_write(place / CHART, comparison_page.chart(record))
    click.echo(json.dumps(record) if o.as_json else text)
    say(f"written: {place / RECORD}, {place / PAGE}, {place / CHART}")


@dataclass(frozen=True)
class _Kind:
    """What a model is compared as: its name, "" of the one with exits, and the rules that it may use (None:
    it is static)."""

    called: str
    rules: tuple[str, ...] | None


def _entrant(kind: _Kind, evaluator: PolicyEvaluator, tune: Samples) -> Entrant:
    """A model with its candidates, judged on the tuning pictures."""
    from mue_edge.calibrate.policies import comparison, halving

    traces = [] if kind.rules is None else evaluator.decisions(tune)
    outcomes = halving.evaluated_candidates(evaluator, tune, traces, kind.rules or ("fixed",))
    rules = (kind.rules or ()) if kind.called else ()
    return comparison.Entrant(evaluator, tuple(outcomes), kind.called, rules)


def _source(name: str) -> Path:
    """The folder of a bundle or of a model."""
    from mue_edge.apps.cli.catalogue import resolve_model
    from mue_edge.bundle.manifest import MANIFEST

    return Path(name) if (Path(name) / MANIFEST).is_file() else resolve_model(name)


def _seeds(folder: Path) -> list[Path]:
    """The models of a folder: those of its seed-0, seed-1, …, or itself; training writes a folder `model`."""
    numbered = sorted(folder.glob("seed-*"), key=lambda path: (len(path.name), path.name))
    return [path / "model" if (path / "model").is_dir() else path for path in numbered or [folder]]


def _own(text: str) -> tuple[Path, tuple[str, ...]]:
    """`calm-softmax,pabee=FOLDER`."""
    from mue_edge.rules import RULES

    names, _, folder = text.partition("=")
    rules = tuple(name.strip() for name in names.split(","))
    unknown = [name for name in rules if name not in RULES]
    if unknown or not Path(folder).is_dir():
        raise UsageError(
            f"--own {text!r}: "
            + (f"no rule {unknown[0]!r}; rules: {', '.join(RULES)}" if unknown else f"no folder {folder!r}")
            + "; write --own pabee=FOLDER"
        )
    return Path(folder), rules


def _with_heads(model: Path, out: Path, tune: Samples, seed: int) -> Path:
    """The model, or a copy with the heads that it lacks; a bundle as it is."""
    from mue_edge.bundle.manifest import MANIFEST
    from mue_edge.calibrate.training import missing_heads, teachers

    if (model / MANIFEST).is_file():
        return model
    out.parent.mkdir(parents=True, exist_ok=True)
    return missing_heads.completed(model, out, partial(teachers.batches, tune), progress, seed=seed)


def _called(folder: Path) -> str:
    """A static model's name: its folder's, or of a folder `model`, as training writes it, the one around."""
    whole = folder.resolve()
    return whole.parent.name if whole.name == "model" else whole.name


def _claim(place: Path) -> None:
    """Make the output folder. Raises UsageError for one that holds something else."""
    if place.exists() and any(place.iterdir()) and not (place / "exits").is_dir():
        raise UsageError(f"{place} is there and holds no comparison; give another --out, or remove it")
    (place / "exits").mkdir(parents=True, exist_ok=True)


@contextmanager
def _opened(
    o: ComparisonOptions, model: Path, place: Path, tune: Samples, known: Frequencies | None
) -> Iterator[PolicyEvaluator]:
    """A model's bundle, exported if it is not there, with its profile."""
    from mue_edge import targets
    from mue_edge.apps.cli.exporting import bundle_of
    from mue_edge.calibrate.plans import times
    from mue_edge.calibrate.policies.evaluator import PolicyEvaluator

    place.mkdir(parents=True, exist_ok=True)
    bundle = bundle_of(model, place / "bundle", o.target, {}, model.resolve().name)
    with targets.open_session(bundle.path, threads=1) as captioner:
        asked = times.ProfileRequest(place / "profile.json", None, None, 1, o.clock)
        profile, _ = times.obtain(captioner, tune, asked, progress, say)
        yield PolicyEvaluator(
            captioner, profile, place / "traces", known, progress, o.workers or machine.cores(), o.clock
        )


def _missing(main: Entrant) -> list[str]:
    """Which rules were left out for want of heads, and what trains them."""
    from mue_edge.rules import RULES

    there = {j.policy.rule for j in main.outcomes}
    wanting = [name for name, rule in RULES.items() if rule.heads and name not in there]
    train = "mue-edge train MODEL --heads RULE --data PICTURES --out OUT, then compare OUT/model"
    return [f"the model has no heads for {', '.join(wanting)}, left out here; {train}"] if wanting else []


def _metrics(
    found: Comparison, held: Samples, loss: str
) -> tuple[dict[tuple[str, ...], dict[str, float]], list[str]]:
    """COCO's metrics of every set of captions, where people captioned the pictures; and what was left out."""
    from mue_edge.calibrate.certificate import losses
    from mue_edge.calibrate.metrics import coco_metrics

    if loss == losses.ACCURACY:
        return {}, []
    if held.references is None:
        return {}, ["no captions came with the pictures: quality is consistency with full depth"]
    sets = {row.captions: row.captions for row in (found.full, *found.rows, *found.modalities)}
    wanted = ("bleu_4", "meteor", "cider_d", "spice")
    measured = coco_metrics.measure(sets, held.references, wanted)
    totals = {key: {n: tally.total() for n, tally in own.items()} for key, own in measured.scores.items()}
    return totals, list(measured.notes)
