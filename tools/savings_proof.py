"""What is kept of quality at −30 … −70 % of full depth's time: `python tools/evidence.py savings-exits`
(one plan, exits alone) and `savings-plans` (exits with image size, precision and cuts).

Policies and plans are chosen on val_render by predicted mean CPU time, and judged on test_render and
test_comp, which had no part in it: CIDEr-D with frozen document frequencies, as a change against full depth
with a bootstrap interval by cluster, and CPU times of captions that take turns with full depth's.
"""

from __future__ import annotations

import io
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from mue_edge import models, profile, profiling, targets
from mue_edge.apps.catalogue import calibration_pictures
from mue_edge.apps.stickers.dataset import read
from mue_edge.apps.stickers.render import on_white
from mue_edge.calibrate import bootstrap, calibration, examples, samples, savings, tuning
from mue_edge.calibrate.certificate import SIMULATION, Conditions
from mue_edge.calibrate.cider import Frequencies
from mue_edge.calibrate.clusters import Clusters
from mue_edge.calibrate.outcomes import Sample
from mue_edge.calibrate.plan_search import search_plans
from mue_edge.calibrate.plan_space import FINE, PAIRS, PATCH, Space
from mue_edge.calibrate.plan_trial import BUNDLE
from mue_edge.calibrate.samples import Samples
from mue_edge.calibrate.setting import Setting, runs_of, score_of, speak
from mue_edge.calibrate.tuning import Judged
from mue_edge.captioner import Captioner
from mue_edge.policy import Policy
from mue_edge.rules import RULES

SPLITS = ("test_render", "test_comp")
# Plans are compared on so many tuning pictures; so many of them are judged with every candidate.
SUBSET, MOST_PLANS = 200, 2
# Of full depth's quality: what a smaller size or a coarser precision may cost to serve as the base.
AS_GOOD = 0.99
TIMED = 150  # pictures whose captions are timed, each under every policy


def of_rule(name: str, policy: Policy) -> bool:
    """Admits a rule's policies."""
    return policy.rule == name


FAMILIES: dict[str, Callable[[Policy], bool]] = {
    "fixed": lambda policy: policy.rule in ("fixed", "never"),
    "mue": savings.as_published,
    **{name: partial(of_rule, name) for name, rule in RULES.items() if rule.calibrated and name != "mue"},
    "best": savings.anything,
}


@dataclass(frozen=True)
class Data:
    """Pictures to tune on, held-out pictures, and document frequencies of the training captions."""

    tune: Samples
    held: Samples
    known: Frequencies


def data(spoken: Callable[[str], str], limit: int | None = None) -> Data:
    """`limit`: only so many pictures each, to try it."""
    tune, _, frequencies = samples.of_tables(*calibration_pictures("stickers"), spoken)
    found = read()
    rows = [int(row) for split in SPLITS for row in found.rows(split)[:limit]]
    records = [found.records[row] for row in rows]
    held = Samples(
        "+".join(SPLITS),
        tuple(Sample(r.id, _png(on_white(found.pixels[row]))) for r, row in zip(records, rows)),
        tuple(r.emoji for r in records),
        tuple((spoken(r.caption),) for r in records),
    )
    tuned = tune if limit is None else tune.rows(range(limit), f"{tune.source} ({limit})")
    return Data(tuned, held, frequencies)


def _png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[], None]]:
    begin = time.monotonic()
    yield lambda: None
    click.echo(f"{label}: {length} in {time.monotonic() - begin:.0f} s", err=True)


def opened(bundle: Path, kept: Path, known: Data) -> Setting:
    """A bundle with its profile in CPU time (made if it is not there); what is held out is its *certify*."""
    captioner = targets.open(bundle, threads=1)
    path = kept / "profile.json"
    if not path.is_file():
        kept.mkdir(parents=True, exist_ok=True)
        shown = profiling.pictures(captioner, [sample.picture for sample in known.tune.samples])
        with progress("profile", profiling.CAPTIONS) as step:
            found, _ = profiling.profiled(captioner, shown, clock=profile.CPU, step=step)
        profile.write(path, found)
    times = profile.read(path)
    return Setting(
        captioner, times, known.tune, known.held, kept / "traces", known.known,
        # Nothing is certified here.
        Conditions(SIMULATION, times.device, times.runtime, times.threads, "", ""),
        progress, workers=2, clock=profile.CPU,
    )  # fmt: skip


def judged(setting: Setting) -> list[Judged]:
    """The candidates that a calibration would judge on the tuning pictures, full depth first."""
    policies = calibration.enumerated(setting, calibration.traces(setting))
    policies = calibration.promising(setting, policies)
    found = runs_of(setting, policies, setting.tune, f"{len(policies)} policies")
    spoken = speak(setting)
    score = score_of(setting, setting.tune, [spoken(runs.runs[0].tokens) for runs in found])
    return tuning.judge(policies, found, setting.tune.clusters, setting.profile, score, spoken)


def held_scores(setting: Setting, policies: Sequence[Policy]) -> list[np.ndarray[Any, Any]]:
    """CIDEr-D of every policy on the held-out pictures."""
    found = runs_of(setting, policies, setting.certify, f"{len(policies)} policies, held out")
    spoken = speak(setting)
    score = score_of(setting, setting.certify, ())
    return [np.asarray(score([spoken(runs.runs[i].tokens) for runs in found])) for i in range(len(policies))]


def change(scores: Any, base: Any, clusters: Sequence[str]) -> dict[str, float]:
    """Relative change of the mean over clusters, with its interval."""
    groups = Clusters(clusters)
    names = [str(i) for i in range(groups.count)]
    exits, full = (bootstrap.mean_of(groups.means(each).tolist()) for each in (scores, base))
    found = bootstrap.relative_change(exits, full, names)
    return {key: round(value, 5) for key, value in asdict(found).items()}


def timed(runs: Sequence[tuple[Captioner, Policy]], pictures: Sequence[Any]) -> list[dict[str, float]]:
    """CPU seconds of each run's captions against the first's, all in turns: medians and quartiles of the
    paired ratios, and the ratio of the sums."""
    seconds, order = np.zeros((len(runs), len(pictures))), random.Random(0)
    for k, picture in enumerate([*pictures[:3], *pictures]):
        for i in order.sample(range(len(runs)), len(runs)):
            captioner, policy = runs[i]
            begin = time.process_time()
            captioner.caption(picture, policy=policy)
            seconds[i, max(0, k - 3)] = time.process_time() - begin
    found = []
    for own in seconds:
        low, middle, high = statistics.quantiles(own / seconds[0], n=4)
        found.append(
            {"low": low, "median": middle, "high": high, "of_sums": float(own.sum() / seconds[0].sum())}
        )
    return [{key: round(value, 4) for key, value in each.items()} for each in found]


@dataclass(frozen=True)
class Choice:
    """What is best at a share of the time saved, of one family; `seconds` as predicted."""

    share: float
    family: str
    setting: Setting
    judged: Judged
    seconds: float


def chosen(fronts: Sequence[tuple[Setting, Sequence[Judged], float]], full: float) -> list[Choice]:
    """By share and family the best on the tuning pictures, of all plans: (setting, judged, factor that
    brings its times to the yardstick of `full`, full depth's seconds)."""
    found = []
    for share in savings.SHARES:
        for family, admits in FAMILIES.items():
            options = []
            for setting, all_of, factor in fronts:
                best = savings.best_within(all_of, (1 - share) * full / factor, admits)
                if best is not None:
                    options.append(Choice(share, family, setting, best, best.mean_seconds * factor))
            if options:
                found.append(max(options, key=lambda c: (c.judged.quality, -c.seconds)))
    return found


def shown(choices: Sequence[Choice], base: Choice, pictures: int) -> dict[str, Any]:
    """Every choice on the held-out pictures against `base`, and live."""
    by_plan: dict[int, list[Choice]] = {}
    for choice in [base, *choices]:
        by_plan.setdefault(id(choice.setting), []).append(choice)
    scores: dict[tuple[int, str], Any] = {}
    for key, of_plan in by_plan.items():
        policies = list({c.judged.policy.name: c.judged.policy for c in of_plan}.values())
        found = held_scores(of_plan[0].setting, policies)
        scores |= {(key, policy.name): each for policy, each in zip(policies, found)}
    held = base.setting.certify
    drawn = Clusters(held.clusters).drawn()[:pictures]
    live_runs = {
        (id(c.setting), c.judged.policy.name): (c.setting.captioner, c.judged.policy)
        for c in [base, *choices]
    }
    first = (id(base.setting), base.judged.policy.name)
    twin = (base.setting.captioner, base.judged.policy)
    with progress("in turns", len(drawn)):
        times = timed([*live_runs.values(), twin], [held.samples[i].picture for i in drawn.tolist()])
    live = dict(zip(live_runs, times))
    rows = []
    for c in choices:
        own = (id(c.setting), c.judged.policy.name)
        manifest = c.setting.captioner.bundle.manifest
        rows.append(
            {
                "share": c.share, "family": c.family, "policy": c.judged.policy.to_json(),
                # Where there is but one plan, it is not worth a word.
                "plan": {k: manifest.plan[k] for k in ("height", "width", "precision", "ends")}
                if len(by_plan) > 1
                else {},
                "layers": {stack: round(value, 3) for stack, value in c.judged.layers.items()},
                "predicted": round(c.seconds / base.seconds, 4), "live": live[own],
                "kept_tune": round(c.judged.quality / base.judged.quality, 4),
                "change_held": change(scores[own], scores[first], held.clusters),
            }
        )  # fmt: skip
    return {
        "tune": {"source": base.setting.tune.source, "pictures": len(base.setting.tune)},
        "held": {
            "source": held.source, "pictures": len(held), "clusters": Clusters(held.clusters).count,
            "cider_d_base": round(float(Clusters(held.clusters).means(scores[first]).mean()), 4),
        },
        "timed": len(drawn), "twin": times[-1], "rows": rows,
    }  # fmt: skip


def exits_alone(bundle: Path, kept: Path, limit: int | None = None) -> dict[str, Any]:
    """One plan: what exits do, against that plan's full depth."""
    known = data(_spoken(bundle), limit)
    setting = opened(bundle, kept, known)
    found = judged(setting)
    full = Choice(0.0, "full", setting, found[0], found[0].mean_seconds)
    figures = shown(chosen([(setting, found, 1.0)], full.seconds), full, TIMED)
    duels = savings.duels(found)
    figures["against_fixed_depths"] = [
        {
            "fixed": d.fixed.policy.name, "kept": round(d.fixed.quality / found[0].quality, 4),
            "exits": d.rival.policy.name if d.rival else None,
            "time_ratio": None if d.ratio is None else round(d.ratio, 4), "won": d.won,
        }
        for d in duels
    ]  # fmt: skip
    return figures | {"candidates": len(found)}


def _spoken(bundle: Path) -> Callable[[str], str]:
    from mue_edge import tokens

    tokenizer = tokens.load(bundle / "tokenizer.json")
    return lambda text: examples.as_spoken(tokenizer, text)


def exits_and_plans(model: Path, workdir: Path, limit: int | None = None) -> dict[str, Any]:
    """Exits with image size, precision and cuts, against full depth at the fastest plan of those tried that
    keeps AS_GOOD of the best full depth's quality."""
    known = data(_spoken(model), limit)
    size, precisions = int(models.read_config(model)["image_size"]), targets.target("host").precisions
    space = Space(((size, size), (size - PATCH, size - PATCH)), precisions, (FINE, PAIRS), (size, size))
    found = search_plans(
        model, "host", known.tune, known.known, None, trials=len(space.choices), seed=0, workdir=workdir,
        clock=profile.CPU, progress=progress, subset=SUBSET, space=space, workers=2,
    )  # fmt: skip
    made = [trial for trial in found.trials if not trial.measured.problem]
    top = max(trial.measured.full.quality for trial in made)
    able = [trial for trial in made if trial.measured.full.quality >= AS_GOOD * top]
    base_trial = min(able, key=lambda trial: trial.measured.full.seconds)
    least = (1 - max(savings.SHARES)) * base_trial.measured.full.seconds
    on_front = Counter(f.trial.number for f in found.front if f.point.seconds >= least)
    numbers = dict.fromkeys([base_trial.number, *(number for number, _ in on_front.most_common(MOST_PLANS))])
    fronts, base = [], None
    for trial in (t for t in made if t.number in numbers):
        setting = opened(trial.place / BUNDLE, trial.place, known)
        all_of = judged(setting)
        fronts.append((setting, all_of, tuning.expected_noise(setting.profile)))
        if trial is base_trial:
            seconds = all_of[0].mean_seconds * fronts[-1][2]
            base = Choice(0.0, "full", setting, all_of[0], seconds)
    assert base is not None
    figures = shown(chosen(fronts, base.seconds), base, TIMED)
    figures["base"] = dict(base_trial.options)
    figures["plans"] = [
        {
            **trial.options, "problem": trial.measured.problem,
            "full_depth": None if trial.measured.problem else {
                "time": round(trial.measured.full.seconds / base_trial.measured.full.seconds, 4),
                "quality": round(trial.measured.full.quality / top, 4),
            },
        }
        for trial in found.trials
    ]  # fmt: skip
    return figures | {"candidates": sum(len(all_of) for _, all_of, _ in fronts), "subset": SUBSET}
