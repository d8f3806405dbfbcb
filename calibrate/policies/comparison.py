"""Exit methods side by side: chosen on tuning pictures for the same aims, judged on others, timed in turns.

A *method* is a rule with all its candidates, among them the encoder's fixed depths, so that rules for the
decoder alone have the best one too; the first of them are full depth, fixed depths, and MuE as published.
A *static* model is another, smaller one without exits, at its own best fixed depth; an *own* model is the
same network trained as a rule's paper trains it. An *aim* is the least time at a loss of quality, or the best
quality at a saving of time, both foretold on the tuning pictures.

Seeds: choices are repeated on clusters drawn anew with replacement (the first seed takes them as they are),
by models of other trainings where there are any; figures are means over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.metrics.bootstrap import Estimate
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies import held, savings
from mue_edge.calibrate.policies.held import HeldOutOutcome
from mue_edge.calibrate.policies.setting import Setting
from mue_edge.calibrate.policies.tuning import Judged, mean_layers
from mue_edge.loop.policy import Policy
from mue_edge.measuring import bench
from mue_edge.rules import RULES
from mue_edge.sessions.session import Session

DROPS, SAVED = (0.01, 0.03, 0.05), (0.5, 0.6)
TIMED = 124  # pictures whose captions are timed, one of a cluster
MUE = "mue, as published"
OWN = ", own training"


@dataclass(frozen=True)
class Entrant:
    """A model: its candidates judged on *tune*, full depth first. `name`: where it is another model than the
    one that is compared; `rules`: those that it was trained for (none: it is static)."""

    setting: Setting
    judged: tuple[Judged, ...]
    name: str = ""
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Method:
    """`admits` says of a policy whether the method may choose it; `entrant`: whose policies. `own`: the rule
    whose own training this is."""

    name: str
    admits: Callable[[Policy], bool]
    entrant: str = ""
    own: str | None = None


@dataclass(frozen=True)
class Aim:
    """The least time at a loss `drop` of quality, or the best quality at a share `saved` of the time."""

    drop: float | None = None
    saved: float | None = None

    def __str__(self) -> str:
        return f"−{self.saved:.0%} time" if self.drop is None else f"≤ {self.drop:.0%} loss"


@dataclass(frozen=True)
class Pick:
    """What a method chose for an aim under one seed."""

    entrant: Entrant
    judged: Judged


@dataclass(frozen=True)
class ComparisonRow:
    """A method at an aim on the held-out pictures; means over seeds, ratios and changes against full depth.

    `own`: the rule whose own training this is; `layers` by stack (a token in the decoder); `kept_tune`:
    quality's share on *tune*; `change`: of quality, `by_seed` its means; `over_mue`: of quality against MuE
    as published at the same aim (None: it has no policy there, or is it); `time`: live, by picture;
    `captions`: of the first seed.
    """

    method: str
    own: str | None
    aim: Aim
    policies: tuple[Policy, ...]
    layers: Mapping[str, float]
    macs: float
    kept_tune: float
    quality: float
    change: Estimate
    by_seed: tuple[float, ...]
    over_mue: Estimate | None
    time: Estimate
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """`full` is full depth; `none`: methods and aims that have no policy; `modalities`: MuE's exits in one
    encoder stack, in the other, in both; `twin`: full depth's time against itself; `timed` pictures.
    `fronts`: what is foretold on *tune*, by method, (time, quality) as shares of full depth's."""

    full: ComparisonRow
    rows: tuple[ComparisonRow, ...]
    modalities: tuple[ComparisonRow, ...]
    none: tuple[tuple[str, Aim], ...]
    twin: Estimate
    timed: int
    fronts: Mapping[str, tuple[tuple[float, float], ...]]


def methods(entrants: Sequence[Entrant]) -> list[Method]:
    """Of every rule that has candidates, of every static model, and of the models of rules' own training."""
    there = {j.policy.rule for entrant in entrants if not entrant.name for j in entrant.judged}
    found = [Method("fixed depths", _is_fixed), Method(MUE, savings.as_published)]
    for name, rule in RULES.items():
        if rule.calibrated and name in there:
            found.append(Method("mue, by boundary" if name == "mue" else name, partial(_of_rule, name)))
    found += [Method(f"static {e.name}", _is_fixed, e.name) for e in entrants if e.name and not e.rules]
    found += [
        Method(rule + OWN, partial(_of_rule, rule), e.name, own=rule) for e in entrants for rule in e.rules
    ]
    return [*found, Method("best", savings.anything)]


def _is_fixed(policy: Policy) -> bool:
    return policy.rule in ("fixed", "never")


def _of_rule(name: str, policy: Policy) -> bool:
    return policy.rule == name


def choose(entrants: Sequence[Entrant], method: Method, aim: Aim, seed: int) -> Pick | None:
    """The method's choice on the tuning pictures as the seed draws them; None if nothing reaches the aim."""
    full = next(e for e in entrants if not e.name).judged[0]
    base = drawn_quality(entrants, full, seed)
    picks = [
        (drawn_quality(entrants, j, seed), -j.mean_seconds, Pick(e, j))
        for e in entrants
        if e.name == method.entrant
        for j in e.judged
        if method.admits(j.policy)
    ]
    if aim.saved is not None:
        fitting = [p for p in picks if -p[1] <= (1 - aim.saved) * full.mean_seconds]
        return max(fitting, key=lambda p: p[:2], default=(0, 0, None))[2]
    assert aim.drop is not None
    fitting = [p for p in picks if p[0] >= (1 - aim.drop) * base]
    return max(fitting, key=lambda p: (p[1], p[0]), default=(0, 0, None))[2]


def drawn_quality(entrants: Sequence[Entrant], judged: Judged, seed: int) -> float:
    """Mean over the clusters that a seed draws with replacement; seed 0: as they are."""
    groups = Clusters(entrants[0].setting.tune.clusters)
    means = groups.means(judged.scores)
    if seed:
        means = means[np.random.default_rng(seed).integers(0, groups.count, groups.count)]
    return float(means.mean())


def compare(
    seeds: Sequence[Sequence[Entrant]], aims: Sequence[Aim], shown: Sequence[Judged] = (), timed: int = TIMED
) -> Comparison:
    """`seeds`: the models of each seed, the one with exits first; most are the same ones every time.
    `shown`: policies of that model that are measured as they are, `Comparison.modalities`."""
    known = methods(seeds[0])
    picks: dict[tuple[Method, Aim], list[Pick]] = {}
    none = []
    for aim in aims:
        for method in known:
            found = [choose(models, method, aim, seed) for seed, models in enumerate(seeds)]
            chosen = [pick for pick in found if pick is not None]
            if len(chosen) == len(seeds):
                picks[method, aim] = chosen
            else:
                none.append((method.name, aim))
    first = seeds[0][0]
    bases = [Pick(models[0], models[0].judged[0]) for models in seeds]
    plain = [Pick(first, j) for j in shown]
    everything = _by_identity([*bases, *plain, *(p for chosen in picks.values() for p in chosen)])
    held_out = _held(everything)
    others = first.setting.certify
    drawn = Clusters(others.clusters).drawn()[:timed]
    runs: list[tuple[Session, Policy]] = [
        (p.entrant.setting.captioner, p.judged.policy) for p in everything.values()
    ]
    with first.setting.progress("in turns", len(drawn)) as step:
        samples = [others.samples[i] for i in drawn.tolist()]
        twin = (first.setting.captioner, bases[0].judged.policy)
        seconds = bench.policy_seconds([*runs, twin], samples, clock=first.setting.clock, progress=step)
    times = dict(zip(everything, seconds, strict=False))
    table = ComparisonTable(
        held_out, times, bases, others.clusters, [others.clusters[i] for i in drawn.tolist()]
    )
    published = {aim: chosen for (method, aim), chosen in picks.items() if method.name == MUE}
    rows = [
        table.row(method, aim, chosen, published.get(aim) if method.name != MUE else None)
        for (method, aim), chosen in picks.items()
    ]
    full = table.row(Method("full depth", _is_fixed), Aim(drop=0.0), bases, None)
    modalities = [table.row(Method(p.judged.policy.name, _is_fixed), Aim(drop=0.0), [p], None) for p in plain]
    fronts = {m.name: _front(seeds[0], m, bases[0].judged) for m in known if m.name != "best"}
    twin_time = table.time([seconds[-1]], bases[:1])
    return Comparison(full, tuple(rows), tuple(modalities), tuple(none), twin_time, len(drawn), fronts)


_Key = tuple[int, str]


def _key(pick: Pick) -> _Key:
    return id(pick.entrant), pick.judged.policy.name


def _by_identity(picks: Sequence[Pick]) -> dict[_Key, Pick]:
    return {_key(pick): pick for pick in picks}


def _held(picks: Mapping[_Key, Pick]) -> dict[_Key, HeldOutOutcome]:
    """Every pick on the held-out pictures, a model at a time."""
    found: dict[_Key, HeldOutOutcome] = {}
    for model in {key[0]: pick.entrant for key, pick in picks.items()}.values():
        own = {key: pick for key, pick in picks.items() if pick.entrant is model}
        seen = held.seen(model.setting, [pick.judged.policy for pick in own.values()])
        found |= dict(zip(own, seen, strict=True))
    return found


@dataclass(frozen=True)
class ComparisonTable:
    """Rows of what was seen of picks and how long they took."""

    seen: Mapping[_Key, HeldOutOutcome]
    seconds: Mapping[_Key, NDArray[np.float64]]
    bases: Sequence[Pick]  # full depth, a seed each
    clusters: Sequence[str]
    timed: Sequence[str]

    def row(
        self, method: Method, aim: Aim, chosen: Sequence[Pick], mue: Sequence[Pick] | None
    ) -> ComparisonRow:
        """Of a pick a seed, or of the first seed's only."""
        groups, keys = Clusters(self.clusters), [_key(pick) for pick in chosen]
        scores, bases = self._scores(chosen), self.bases[: len(chosen)]
        layers = [mean_layers(self.seen[key].runs) for key in keys]
        pairs = list(zip(chosen, bases, strict=True))
        return ComparisonRow(
            method.name, method.own, aim, tuple(pick.judged.policy for pick in chosen),
            {stack: float(np.mean([each[stack] for each in layers])) for stack in layers[0]},
            float(np.mean([self._macs(p) / self._macs(b) for p, b in pairs])),
            float(np.mean([p.judged.quality / b.judged.quality for p, b in pairs])),
            float(groups.means(scores).mean()),
            self.change(chosen), self.changes(chosen),
            None if mue is None else held.change(scores, self._scores(mue), self.clusters),
            self.time([self.seconds[key] for key in keys], bases), self.seen[keys[0]].captions,
        )  # fmt: skip

    def change(self, chosen: Sequence[Pick]) -> Estimate:
        """Of quality, all seeds together, against their own full depth."""
        scores, bases = self._scores(chosen), self._scores(self.bases[: len(chosen)])
        return held.change(scores, bases, self.clusters)

    def changes(self, chosen: Sequence[Pick]) -> tuple[float, ...]:
        """Of quality, seed by seed."""
        found = (replace(self, bases=[base]).change([pick]) for pick, base in zip(chosen, self.bases))
        return tuple(each.mean for each in found)

    def time(self, seconds: Sequence[NDArray[np.float64]], bases: Sequence[Pick]) -> Estimate:
        """Mean time over full depth's, with an interval by picture."""
        whole = np.mean([self.seconds[_key(base)] for base in bases], axis=0)
        change = held.change(np.mean(seconds, axis=0), whole, self.timed)
        return Estimate(1 + change.mean, change.standard_error, 1 + change.low, 1 + change.high, change.level)

    def _scores(self, picks: Sequence[Pick]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.mean([self.seen[_key(pick)].scores for pick in picks], axis=0)
        return found

    def _macs(self, pick: Pick) -> float:
        """Multiply-adds a caption."""
        segments = pick.entrant.setting.captioner.bundle.manifest.segments
        runs = self.seen[_key(pick)].runs
        return sum(segments[name].macs for run in runs for name in run.segments) / len(runs)


def _front(entrants: Sequence[Entrant], method: Method, full: Judged) -> tuple[tuple[float, float], ...]:
    """(time, quality) of full depth's, as foretold, of the method's candidates that no faster one equals."""
    own = [j for e in entrants if e.name == method.entrant for j in e.judged if method.admits(j.policy)]
    points: list[tuple[float, float]] = []
    for time, quality in sorted((j.mean_seconds / full.mean_seconds, j.quality / full.quality) for j in own):
        if not points or quality > points[-1][1]:
            points.append((time, quality))
    return tuple(points)
