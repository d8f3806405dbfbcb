"""Candidates are thinned out on growing parts of *tune*, so that only the promising ones run on all of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.policies import candidates, savings, signals
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator, PolicyOutcome, pareto_front
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import ExitDecision
from mue_edge.rules import RULES


@dataclass(frozen=True)
class Round:
    """Candidates are thinned out on so many pictures of *tune*: at least so many pairs of fixed depths and
    others stay, and of each rule where every rule counts."""

    pictures: int
    pairs: int
    others: int
    each: int


# The few pictures of the first cannot tell good from better, so it leaves many. Of a rule's candidates those
# that lose nothing are slow, and on few pictures fast ones are lucky, hence the many of each.
ROUNDS = (Round(12, 10, 80, 24), Round(48, 6, 20, 12), Round(112, 4, 6, 6))


def promising(
    evaluator: PolicyEvaluator, tune: Samples, policies: Sequence[Policy], *, every_rule: bool = False
) -> list[Policy]:
    """The candidates that are worth all of *tune*, by growing parts of it (successive halving). `every_rule`:
    the best of every rule stay, though others are better."""
    order = np.random.default_rng(0).permutation(len(tune))
    remaining = list(policies)
    for step in ROUNDS:
        if step.pictures < len(order) and step.pairs + step.others < len(remaining):
            part = tune.rows(sorted(order[: step.pictures].tolist()), "a part")
            label = f"{len(remaining)} policies on {len(part)} tuning pictures"
            names = survivors(evaluator.evaluate(remaining, part, label), step, every_rule=every_rule)
            remaining = [policy for policy in remaining if policy.name in names]
    return remaining


def survivors(outcomes: Sequence[PolicyOutcome], step: Round, *, every_rule: bool) -> set[str]:
    """Names of full depth, the fixed depths that end one stack (what signals are judged by) and the best
    pairs, the front of MuE's own policies, with `every_rule` the best of every rule and more of MuE's, and
    the best others, front after front, until there are enough."""
    fixed = [o for o in outcomes if o.policy.rule in ("never", "fixed")]
    published = [o for o in outcomes if savings.is_published_mue(o.policy)]
    names = {o.policy.name for o in fixed if o.policy.rule == "never" or signals.end_of(o.policy)}
    names |= best_of(fixed, step.pairs) | best_of(published, step.each if every_rule else 1)
    for rule in RULES if every_rule else ():
        names |= best_of([o for o in outcomes if o.policy.rule == rule], step.each)
    return names | best_of([o for o in outcomes if o.policy.name not in names], step.others)


def best_of(outcomes: Sequence[PolicyOutcome], least: int) -> set[str]:
    """Names of the first front, of the front without those, and so on, until there are at least so many."""
    remaining, names = list(outcomes), set[str]()
    while remaining and len(names) < least:
        names |= {o.policy.name for o in pareto_front(remaining)}
        remaining = [o for o in remaining if o.policy.name not in names]
    return names


def evaluated_candidates(
    evaluator: PolicyEvaluator,
    tune: Samples,
    traces: Sequence[Sequence[ExitDecision]],
    rules: Collection[str] | None = None,
) -> list[PolicyOutcome]:
    """Outcomes on *tune* of the candidates that are worth all its pictures, full depth's first. `rules`: only
    theirs, the best of every one among them."""
    full, *others = candidates.enumerated(evaluator.session, traces)
    policies = [full, *(policy for policy in others if rules is None or policy.rule in rules)]
    policies = promising(evaluator, tune, policies, every_rule=rules is not None)
    return evaluator.evaluate(policies, tune, f"{len(policies)} policies on the tuning pictures")
