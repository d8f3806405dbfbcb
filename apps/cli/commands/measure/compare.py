"""`mue-edge compare`: compare every exit rule on one model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mue_edge import machine, targets
from mue_edge.apps.cli import exporting
from mue_edge.apps.cli.options import common, option, parse_share, shared, takes
from mue_edge.apps.cli.terminal import progress, say
from mue_edge.bundle.manifest import MANIFEST
from mue_edge.errors import UsageError
from mue_edge.files import atomic_write
from mue_edge.rules import RULES

if TYPE_CHECKING:
    from mue_edge.calibrate.data.samples import Samples
    from mue_edge.calibrate.metrics.cider import Frequencies
    from mue_edge.calibrate.plans.vocabulary import LargeHead
    from mue_edge.calibrate.policies.comparison import Comparison, Entrant
    from mue_edge.calibrate.policies.evaluator import PolicyEvaluator

RESULT = "comparison"  # the record, the page and the chart
EXITS = "exits"  # folder of the model that is compared
METRICS = ("bleu_4", "meteor", "cider_d", "spice")


@dataclass(frozen=True)
class ComparisonOptions(common.PictureOptions):
    model: str = shared(common.model_argument)
    static: tuple[Path, ...] = option(
        "A smaller model's folder, to compare with; may be repeated.", type=click.Path(path_type=Path, exists=True)
    )
    own: tuple[str, ...] = option(
        "The same network trained as these rules' papers train it; may be repeated.", metavar="RULE[,RULE]=DIR"
    )
    target: str = shared(common.target_option())
    drops: str = option("Of quality: least time at each.", default="1%,3%,5%")
    savings: str = option("Of time: best quality at each.", default="50%,60%")
    seeds: int = option("Draws of the tuning pictures.", type=common.POSITIVE, default=3)
    vocabulary: int | None = option(
        "A projection: choices and times as if the head had so many words.", type=click.IntRange(100, 10_000_000)
    )
    limit: int | None = option("Only so many pictures of either part, to try it.", type=click.IntRange(20))
    out: Path | None = shared(common.out_folder("MODEL-TARGET-compared"))
    clock: str = shared(common.clock_option("cpu"))
    as_json: bool = shared(common.json_option("The record as JSON."))


@click.command("compare")
@takes(ComparisonOptions)
@common.max_pixels_option
def command(o: ComparisonOptions) -> None:
    """Compare every exit method on MODEL: a model folder, a bundled model's name, or a bundle.

    Each rule chooses on tuning pictures, for the same losses of quality and savings of time, and is judged on
    others: quality, layers, multiply-adds, and the time of captions in turns. Fixed depths and --static
    models are the first baselines. Heads that MODEL lacks are trained first, on the tuning pictures. Any of
    the folders may hold trainings with several seeds as seed-0, seed-1, …. Answers are kept in DIR: the same
    command goes on after an interruption.

    --vocabulary 59457 measures, on a random model of OFA-base's shape, how many decoder layers a head over so
    many words costs, and predicts all times with such a head; quality stays that of MODEL. Nothing of it is
    timed live; DIR has it beside the comparison without it.
    """
    drops = [parse_share("--drops", part.strip()) for part in o.drops.split(",")]
    savings = [parse_share("--savings", part.strip()) for part in o.savings.split(",")]
    from mue_edge.apps.cli.calibration_pictures import to_calibrate_on
    from mue_edge.calibrate.policies import candidates, comparison, signals
    from mue_edge.calibrate.report import comparison_page

    targets.target(o.target)
    own = dict(_own(text) for text in o.own)
    model = Path(o.model) if Path(o.model).is_dir() else exporting.resolve_source(o.model)
    # Name → its trainings, and the rules that it may use (none: a static model); "" is the model itself.
    models = {"": _seeds(model)} | {_name(folder): _seeds(folder) for folder in (*o.static, *own)}
    rules = {"": tuple(RULES)} | {_name(folder): trained_for for folder, trained_for in own.items()}
    whole, certify, frequencies = to_calibrate_on(models[""][0], o.data, o.kind, o.images)
    tune = whole.at_most(o.tune)
    if o.limit is not None:
        tune, certify = (part.rows(range(min(o.limit, len(part))), part.source) for part in (tune, certify))
    name = Path(o.model).resolve().name
    folder = o.out or Path(f"{name}-{o.target}-compared")
    exporting.check_output(folder, EXITS, "comparison")
    (folder / EXITS).mkdir(parents=True, exist_ok=True)
    large = None if o.vocabulary is None else _large_head(o.vocabulary)
    with ExitStack() as stack:
        entrants: dict[str, list[Entrant]] = {}
        for entrant, trainings in models.items():
            for seed, training in enumerate(trainings):
                work = folder / (entrant or EXITS) / (f"seed-{seed}" if len(trainings) > 1 else "")
                work.mkdir(parents=True, exist_ok=True)
                source = _with_heads(training, work / "model", tune, seed) if entrant in rules else training
                evaluator = stack.enter_context(_opened(o, source, work, tune, frequencies, large))
                entrants.setdefault(entrant, []).append(_entrant(evaluator, tune, entrant, rules.get(entrant)))
        aims = [comparison.Aim(drop=d) for d in drops] + [comparison.Aim(saved=s) for s in savings]
        by_seed = [[each[seed % len(each)] for each in entrants.values()] for seed in range(o.seeds)]
        first, main = by_seed[0][0], by_seed[0][0].evaluator
        traced = main.decisions(tune)  # kept since its candidates were made
        policies = [first.outcomes[0].policy, *candidates.by_modality(traced)]
        modalities = main.evaluate(policies, tune, "one modality, the other, both")[1:]
        result = comparison.compare(by_seed, aims, tune, certify, modalities, projected=large is not None)
        predictions = signals.signals(main.session.layout, traced, first.outcomes[0], first.outcomes)
    loss = main.loss(tune)
    metrics, notes = _metrics(result, certify, loss)
    notes += _missing(first)
    for note in notes:
        say(f"note: {note}")
    record = comparison_page.record(result, metrics, predictions)
    record |= {"model": name, "target": o.target, "seeds": o.seeds, "clock": o.clock, "quality": loss}
    record |= {"device": machine.device(), "load": round(machine.load_average(), 1), "notes": notes}
    record |= {
        "trainings": {entrant or name: len(each) for entrant, each in entrants.items()},
        "tune": {"source": tune.source, "pictures": len(tune)},
        "held": {"source": certify.source, "pictures": len(certify), "clusters": len(set(certify.clusters))},
        "candidates": sum(len(e.outcomes) for each in entrants.values() for e in each),
    }
    if large is not None:
        record["projection"] = asdict(large)
    parts = ("projection", "page", "own", "modalities", "signals")
    text = "\n".join(filter(None, (getattr(comparison_page, part)(record) for part in parts)))
    texts = {".json": json.dumps(record, indent=1) + "\n", ".md": text, ".svg": comparison_page.chart(record)}
    files = {folder / f"{RESULT}{f'-{o.vocabulary}' if large else ''}{end}": texts[end] for end in texts}
    for file, content in files.items():
        atomic_write(file, content)
    click.echo(json.dumps(record) if o.as_json else text)
    say(f"written: {', '.join(map(str, files))}")


def _large_head(words: int) -> LargeHead:
    """Raises EnvironmentLacksError without what measures it."""
    from mue_edge.calibrate.plans import vocabulary

    with progress(f"a head over {words} words", vocabulary.ROUNDS) as step:
        return vocabulary.measured(words, step=step)


@contextmanager
def _opened(
    o: ComparisonOptions,
    source: Path,
    work: Path,
    tune: Samples,
    frequencies: Frequencies | None,
    large: LargeHead | None,
) -> Iterator[PolicyEvaluator]:
    """A model's bundle, exported if it is not there, with its profile, or one as if it had the large head."""
    from mue_edge.calibrate.plans import vocabulary
    from mue_edge.calibrate.plans.times import ProfileRequest

    bundle = exporting.bundle_of(source, work / exporting.BUNDLE, o.target, {}, source.resolve().name)
    request = ProfileRequest(work / exporting.PROFILE, None, None, 1, o.clock)
    with exporting.policy_evaluator(bundle, work, request, tune, frequencies, o.workers) as (evaluator, _):
        if large is None:
            yield evaluator
        else:
            stages = evaluator.session.layout.decoder.stages
            yield replace(evaluator, profile=vocabulary.repriced(evaluator.profile, stages, large))


def _entrant(evaluator: PolicyEvaluator, tune: Samples, name: str, rules: tuple[str, ...] | None) -> Entrant:
    """A model with its candidates, judged on the tuning pictures; rules: None of a static model."""
    from mue_edge.calibrate.policies import comparison, halving

    traces = [] if rules is None else evaluator.decisions(tune)
    outcomes = halving.evaluated_candidates(evaluator, tune, traces, rules or ("fixed",))
    return comparison.Entrant(evaluator, tuple(outcomes), name, (rules or ()) if name else ())


def _seeds(folder: Path) -> list[Path]:
    """The models of a folder: those of its seed-0, seed-1, …, or itself; training writes a folder `model`."""
    numbered = sorted(folder.glob("seed-*"), key=lambda path: (len(path.name), path.name))
    return [path / "model" if (path / "model").is_dir() else path for path in numbered or [folder]]


def _own(text: str) -> tuple[Path, tuple[str, ...]]:
    """`calm-softmax,pabee=FOLDER`."""
    names, _, folder = text.partition("=")
    rules = tuple(name.strip() for name in names.split(","))
    problem = "" if Path(folder).is_dir() else f"no folder {folder!r}"
    for name in rules:
        if name not in RULES:
            problem = f"no rule {name!r}; rules: {', '.join(RULES)}"
            break
    if problem:
        raise UsageError(f"--own {text!r}: {problem}; write --own pabee=FOLDER")
    return Path(folder), rules


def _with_heads(model: Path, out: Path, tune: Samples, seed: int) -> Path:
    """The model, or a copy with the heads that it lacks; a bundle as it is."""
    from mue_edge.calibrate.training import missing_heads, teachers

    if (model / MANIFEST).is_file():
        return model
    out.parent.mkdir(parents=True, exist_ok=True)
    return missing_heads.completed(model, out, partial(teachers.batches, tune), progress, seed=seed)


def _name(folder: Path) -> str:
    """A model's name: its folder's, or of a folder `model`, as training writes it, the one around."""
    whole = folder.resolve()
    return whole.parent.name if whole.name == "model" else whole.name


def _missing(main: Entrant) -> list[str]:
    """Which rules were left out for want of heads, and what trains them."""
    used = {o.policy.rule for o in main.outcomes}
    missing = [name for name, rule in RULES.items() if rule.heads and name not in used]
    train = "mue-edge train MODEL --heads RULE --data PICTURES --out OUT, then compare OUT/model"
    return [f"the model has no heads for {', '.join(missing)}, left out here; {train}"] if missing else []


def _metrics(
    result: Comparison, certify: Samples, loss: str
) -> tuple[dict[tuple[str, ...], dict[str, float]], list[str]]:
    """COCO's metrics of every set of captions, where people captioned the pictures; and what was left out."""
    from mue_edge.calibrate.certificate import losses
    from mue_edge.calibrate.metrics import coco_metrics

    if loss == losses.ACCURACY:
        return {}, []
    if certify.references is None:
        return {}, ["no captions came with the pictures: quality is consistency with full depth"]
    sets = {row.captions: row.captions for row in (result.full, *result.rows, *result.modalities)}
    measured = coco_metrics.measure(sets, certify.references, METRICS)
    totals = {key: {n: tally.total() for n, tally in own.items()} for key, own in measured.scores.items()}
    return totals, list(measured.notes)
