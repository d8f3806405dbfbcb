"""Exit methods side by side: chosen on tuning pictures for the same aims, judged on others, timed in turns.

A *method* is a rule with all its candidates, among them the encoder's fixed depths, so that rules for the
decoder alone have the best one too; the first of them are full depth, fixed depths, and MuE as published.
A *static* model is another, smaller one without exits, at its own best fixed depth; an *own* model is the
same network trained as a rule's paper trains it. An *aim* is the least time at a loss of quality, or the best
quality at a saving of time, both predicted on the tuning pictures.

Seeds: choices are repeated on clusters drawn anew with replacement (the first seed takes them as they are),
by models of other trainings where there are any; figures are means over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics.bootstrap import Estimate, change_of_means
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies import savings
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator, PolicyOutcome
from mue_edge.loop.policy import Policy
from mue_edge.measuring import bench
from mue_edge.rules import RULES
from mue_edge.sessions.captioner import FULL

TIMED = 124  # pictures whose captions are timed, one of a cluster
MUE = "mue, as published"
OWN = ", own training"


@dataclass(frozen=True)
class Entrant:
    """A model: its candidates' outcomes on *tune*, full depth first. `name`: where it is another model than
    the one that is compared; `rules`: those that it was trained for (none: it is static)."""

    evaluator: PolicyEvaluator
    outcomes: tuple[PolicyOutcome, ...]
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
    """What a method chose for an aim under one seed: an entrant's policy, with its outcome on *tune*."""

    entrant: Entrant
    outcome: PolicyOutcome

    @property
    def key(self) -> tuple[int, str]:
        return id(self.entrant), self.outcome.policy.name


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
    `fronts`: what *tune* predicts, by method, (time, quality) as shares of full depth's."""

    full: ComparisonRow
    rows: tuple[ComparisonRow, ...]
    modalities: tuple[ComparisonRow, ...]
    none: tuple[tuple[str, Aim], ...]
    twin: Estimate
    timed: int
    fronts: Mapping[str, tuple[tuple[float, float], ...]]


def methods(entrants: Sequence[Entrant]) -> list[Method]:
    """Of every rule that has candidates, of every static model, and of the models of rules' own training."""
    rules = {o.policy.rule for entrant in entrants if not entrant.name for o in entrant.outcomes}
    listed = [Method("fixed depths", _is_fixed), Method(MUE, savings.is_published_mue)]
    for name, rule in RULES.items():
        if rule.calibrated and name in rules:
            listed.append(Method("mue, by boundary" if name == "mue" else name, partial(_of_rule, name)))
    listed += [Method(f"static {e.name}", _is_fixed, e.name) for e in entrants if e.name and not e.rules]
    listed += [Method(rule + OWN, partial(_of_rule, rule), e.name, own=rule) for e in entrants for rule in e.rules]
    return [*listed, Method("best", lambda policy: True)]


def _is_fixed(policy: Policy) -> bool:
    return policy.rule in ("fixed", "never")


def _of_rule(name: str, policy: Policy) -> bool:
    return policy.rule == name


def admitted(entrants: Sequence[Entrant], method: Method) -> list[Pick]:
    """All that a method may choose."""
    own = (entrant for entrant in entrants if entrant.name == method.entrant)
    return [Pick(entrant, o) for entrant in own for o in entrant.outcomes if method.admits(o.policy)]


def choose(entrants: Sequence[Entrant], method: Method, aim: Aim, seed: int, clusters: Clusters) -> Pick | None:
    """The method's choice on the tuning pictures (in `clusters`) as the seed draws them; None if nothing
    reaches the aim."""
    full = next(e for e in entrants if not e.name).outcomes[0]

    def quality(outcome: PolicyOutcome) -> float:
        return drawn_quality(outcome, seed, clusters)

    picks = admitted(entrants, method)
    if aim.saved is not None:
        limit = (1 - aim.saved) * full.mean_seconds
        fitting = [p for p in picks if p.outcome.mean_seconds <= limit]
        return max(fitting, key=lambda p: (quality(p.outcome), -p.outcome.mean_seconds), default=None)
    least = (1 - (aim.drop or 0.0)) * quality(full)
    fitting = [p for p in picks if quality(p.outcome) >= least]
    return max(fitting, key=lambda p: (-p.outcome.mean_seconds, quality(p.outcome)), default=None)


def drawn_quality(outcome: PolicyOutcome, seed: int, clusters: Clusters) -> float:
    """Mean over the clusters that a seed draws with replacement; seed 0: as they are."""
    means = clusters.means(outcome.scores)
    if seed:
        means = means[np.random.default_rng(seed).integers(0, clusters.count, clusters.count)]
    return float(means.mean())


def compare(
    seeds: Sequence[Sequence[Entrant]],
    aims: Sequence[Aim],
    tune: Samples,
    certify: Samples,
    modalities: Sequence[PolicyOutcome] = (),
    timed: int = TIMED,
    *,
    projected: bool = False,
) -> Comparison:
    """What methods choose on *tune*, judged on *certify*.

    seeds: the models of each seed, the one with exits first; most are the same ones every time. modalities:
    policies of that model that are measured as they are. timed: pictures whose captions are timed. projected:
    nothing is timed, times are those that the profiles predict of all pictures.
    """
    first, listed = seeds[0][0], methods(seeds[0])
    clusters = Clusters(tune.clusters)
    picks: dict[tuple[Method, Aim], list[Pick]] = {}
    none = []
    for aim in aims:
        for method in listed:
            by_seed = [choose(models, method, aim, seed, clusters) for seed, models in enumerate(seeds)]
            chosen = [pick for pick in by_seed if pick is not None]
            if len(chosen) == len(seeds):
                picks[method, aim] = chosen
            else:
                none.append((method.name, aim))
    bases = [Pick(models[0], models[0].outcomes[0]) for models in seeds]
    plain = [Pick(first, outcome) for outcome in modalities]
    everything = {pick.key: pick for pick in [*bases, *plain, *(p for own in picks.values() for p in own)]}
    outcomes = _outcomes(everything, certify)
    # Full depth once more at the end: its time against itself.
    runs = [*everything.values(), bases[0]]
    part = certify
    if projected:
        seconds = np.array([outcomes[pick.key].seconds for pick in runs])
    else:
        part = certify.rows(Clusters(certify.clusters).drawn()[:timed].tolist(), certify.source)
        seconds = _live(first.evaluator, runs, part)
    times = dict(zip(everything, seconds, strict=False))
    table = ComparisonTable(outcomes, times, bases, certify.clusters, part.clusters)
    published = {aim: chosen for (method, aim), chosen in picks.items() if method.name == MUE}
    none_lost = Aim(drop=0.0)
    return Comparison(
        table.row(Method("full depth", _is_fixed), none_lost, bases, None),
        tuple(
            table.row(method, aim, chosen, published.get(aim) if method.name != MUE else None)
            for (method, aim), chosen in picks.items()
        ),
        tuple(table.row(Method(p.outcome.policy.name, _is_fixed), none_lost, [p], None) for p in plain),
        tuple(none),
        table.time([seconds[-1]], bases[:1]),
        len(part),
        {method.name: _front(seeds[0], method) for method in listed if method.name != "best"},
    )


def _live(evaluator: PolicyEvaluator, picks: Sequence[Pick], part: Samples) -> NDArray[np.float64]:
    """Seconds [picks, pictures], all picks in turns."""
    runs = [(pick.entrant.evaluator.session, pick.outcome.policy) for pick in picks]
    with evaluator.progress("in turns", len(part.samples)) as step:
        return bench.policy_seconds(runs, part.samples, clock=evaluator.clock, progress=step)


def _outcomes(picks: Mapping[tuple[int, str], Pick], certify: Samples) -> dict[tuple[int, str], PolicyOutcome]:
    """Every pick on the held-out pictures, a model at a time."""
    outcomes: dict[tuple[int, str], PolicyOutcome] = {}
    for entrant in {key[0]: pick.entrant for key, pick in picks.items()}.values():
        own = {key: pick.outcome.policy for key, pick in picks.items() if pick.entrant is entrant}
        label = f"{len(own)} policies, held out"
        _, *evaluated = entrant.evaluator.evaluate([FULL, *own.values()], certify, label)
        outcomes |= dict(zip(own, evaluated, strict=True))
    return outcomes


@dataclass(frozen=True)
class ComparisonTable:
    """Rows of picks' outcomes on the held-out pictures and of their seconds on some of them. `clusters`:
    of all those pictures; `timed`: of those that were timed."""

    outcomes: Mapping[tuple[int, str], PolicyOutcome]
    seconds: Mapping[tuple[int, str], NDArray[np.float64]]
    bases: Sequence[Pick]  # full depth, a seed each
    clusters: Sequence[str]
    timed: Sequence[str]

    def row(self, method: Method, aim: Aim, chosen: Sequence[Pick], mue: Sequence[Pick] | None) -> ComparisonRow:
        """Of a pick a seed, or of the first seed's only."""
        scores, bases = self._scores(chosen), self.bases[: len(chosen)]
        pairs = list(zip(chosen, bases, strict=True))
        layers = [self.outcomes[pick.key].layers for pick in chosen]
        return ComparisonRow(
            method.name,
            method.own,
            aim,
            tuple(pick.outcome.policy for pick in chosen),
            {stack: float(np.mean([each[stack] for each in layers])) for stack in layers[0]},
            float(np.mean([self._macs(p) / self._macs(b) for p, b in pairs])),
            float(np.mean([p.outcome.quality / b.outcome.quality for p, b in pairs])),
            float(Clusters(self.clusters).means(scores).mean()),
            self.change(chosen),
            self.changes(chosen),
            None if mue is None else change_of_means(scores, self._scores(mue), self.clusters),
            self.time([self.seconds[pick.key] for pick in chosen], bases),
            self.outcomes[chosen[0].key].captions,
        )

    def change(self, chosen: Sequence[Pick]) -> Estimate:
        """Of quality, all seeds together, against their own full depth."""
        return change_of_means(self._scores(chosen), self._scores(self.bases[: len(chosen)]), self.clusters)

    def changes(self, chosen: Sequence[Pick]) -> tuple[float, ...]:
        """Of quality, seed by seed."""
        pairs = zip(chosen, self.bases)
        return tuple(replace(self, bases=[base]).change([pick]).mean for pick, base in pairs)

    def time(self, seconds: Sequence[NDArray[np.float64]], bases: Sequence[Pick]) -> Estimate:
        """Mean time over full depth's, with an interval by picture."""
        whole = np.mean([self.seconds[base.key] for base in bases], axis=0)
        change = change_of_means(np.mean(seconds, axis=0), whole, self.timed)
        return Estimate(1 + change.mean, change.standard_error, 1 + change.low, 1 + change.high, change.level)

    def _scores(self, picks: Sequence[Pick]) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = np.mean([self.outcomes[pick.key].scores for pick in picks], axis=0)
        return scores

    def _macs(self, pick: Pick) -> float:
        """Multiply-adds a caption."""
        segments = pick.entrant.evaluator.manifest.segments
        runs = self.outcomes[pick.key].runs
        return sum(segments[name].macs for run in runs for name in run.segments) / len(runs)


def _front(entrants: Sequence[Entrant], method: Method) -> tuple[tuple[float, float], ...]:
    """(time, quality) of full depth's, as predicted, of the method's candidates that no faster one equals."""
    full, candidates = entrants[0].outcomes[0], (pick.outcome for pick in admitted(entrants, method))
    ratios = sorted((o.mean_seconds / full.mean_seconds, o.quality / full.quality) for o in candidates)
    points: list[tuple[float, float]] = []
    for time, quality in ratios:
        if not points or quality > points[-1][1]:
            points.append((time, quality))
    return tuple(points)
