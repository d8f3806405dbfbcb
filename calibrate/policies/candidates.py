"""Candidate policies: every pair of depths, and thresholds at quantiles of the traced distances.

Scores of a good model crowd above .998, so a grid of thresholds would miss the range in which they
decide; quantiles of the distances 1 − cosine cannot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import DECODER, TEXT, ExitDecision, Layout, Stack
from mue_edge.loop.replay import midpoint_quantile
from mue_edge.loop.signals import SIGNALS, SIMILARITY
from mue_edge.rules import RULES
from mue_edge.sessions.captioner import FULL
from mue_edge.sessions.session import Session

# Shares of the tests that pass.
ENCODER_QUANTILES = (0.25, 0.5, 0.75)
DECODER_QUANTILES = (0.2, 0.4, 0.6, 0.8, 0.9)
LATER_QUANTILES = (0.6, 0.8, 0.9)  # for thresholds from the second layer on
# Of the first step's distances and of the last steps': the ends of a schedule that grows milder.
SCHEDULES = ((0.1, 0.7), (0.3, 0.9), (0.6, 0.95))
TAU = 1.0
# Of each boundary's own distances; the decoder ends after so many layers at the latest (None: all).
BOUNDARY_QUANTILES = (0.2, 0.4, 0.6, 0.8)
LAST_LAYERS = (2, 3, None)
# Of the first boundary's distances, for signals that are often good enough to exit there nearly always.
LEVELS = (0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.92, 0.95)
# Of all boundaries' distances of a signal that chooses the encoder's depth before it runs.
GATES = (0.1, 0.25, 0.5, 0.75, 0.9)
TAUS = (0.0, 1.0)  # of rules that fix θ's weight in the decay
MODALITY_QUANTILE = 0.5  # where one modality exits alone


@dataclass(frozen=True)
class Distances:
    """Traced distances of the tests of the picture's stack and of the decoder; `late` are those of the later
    half of a caption, `boundaries` the decoder's by the layers before the test."""

    picture: tuple[float, ...]
    decoder: tuple[float, ...]
    first: tuple[float, ...]
    late: tuple[float, ...]
    boundaries: Mapping[int, tuple[float, ...]]


def distances(
    traces: Iterable[Sequence[ExitDecision]],
    stack: str,
    signal: str | None = SIMILARITY,
    encoder: str | None = SIMILARITY,
) -> Distances:
    """Of full-depth traced captions, one sequence of decisions each: the decoder's of `signal`, and those of
    the picture's `stack` of `encoder`."""
    picture: list[float] = []
    decoder: list[tuple[int, int, float]] = []
    boundaries: dict[int, list[float]] = {}
    for decisions in traces:
        steps = 1 + max((d.step for d in decisions if d.stack == DECODER), default=0)
        for d in decisions:
            if d.stack == stack and (distance := widest(d, encoder)) is not None:
                picture.append(distance)
            if d.stack == DECODER and (distance := widest(d, signal)) is not None:
                decoder.append((d.step, steps, distance))
                boundaries.setdefault(d.depth, []).append(distance)
    return Distances(
        tuple(picture),
        tuple(distance for _, _, distance in decoder),
        tuple(distance for step, _, distance in decoder if step == 0),
        tuple(distance for step, steps, distance in decoder if 2 * step >= steps),
        {depth: tuple(values) for depth, values in boundaries.items()},
    )


def widest(decision: ExitDecision, signal: str | None) -> float | None:
    """A signal's distance of the row that is furthest from exiting; None where it was not read."""
    _, values = decision.readings.get(signal or "", ((), decision.distances if signal == SIMILARITY else ()))
    return max(values, default=None)


def enumerated(session: Session, traces: Sequence[Sequence[ExitDecision]]) -> list[Policy]:
    """Full depth first, every pair of fixed depths, thresholds at quantiles of full depth's traces."""
    layout = session.layout
    policies = [*fixed(layout), *by_rule(traces, layout, session.settings().max_length + 1)]
    for stack in layout.of_source(TEXT):
        policies += with_text(policies, traces, stack)
    return [FULL, *policies]


def fixed(layout: Layout, rule: str = "fixed") -> Iterator[Policy]:
    """Every pair of depths at which the picture's stack and the decoder can end, but full depth."""
    picture, decoder = layout.picture, layout.decoder
    for first in picture.ends:
        for second in range(1, decoder.depth + 1):
            exits = {
                picture.name: StackExit(depth=first if first < picture.depth else None),
                DECODER: StackExit(depth=second if second < decoder.depth else None),
            }
            if (first, second) != (picture.depth, decoder.depth):
                yield Policy(rule, exits, name=f"{rule}-{first}-{second}")


def schedule(rule: str, first: float, late: float, horizon: int) -> Policy:
    """The policy of a rule with MuE's schedule whose decoder distances go from `first` at step 0 to `late` at
    N.

    1 − Θ(t) = β(1 − θ) + (1 − β)(1 − e^(−τt/N)), so that β(1 − θ) = first and
    (1 − β)(1 − e^(−τ)) = late − first, at τ = 1.
    """
    beta = min(1.0, max(0.0, 1 - (late - first) / (1 - math.exp(-TAU))))
    theta = 1 - first / beta if beta else 0.0
    return Policy(rule, {DECODER: StackExit(theta)}, beta=beta, tau=TAU, horizon=horizon)


def similarity(rule: str, traced: Distances, layout: Layout, horizon: int) -> Iterator[Policy]:
    """Policies of a rule whose tests read similarity: an encoder's choice times a decoder's.

    Encoder: thresholds, and its `outer` depths. Decoder: constant thresholds, thresholds from the second
    layer on, schedules between quantiles of early and of late distances, and a threshold for every boundary
    with a last layer; or, where the rule fixes the decay, θ such that it begins at a quantile.
    """
    picture = layout.picture
    decoders = {"full": Policy(rule, beta=1.0)}
    decoders |= _decaying(rule, traced) if RULES[rule].beta else _free(rule, traced, layout, horizon)
    encoders = {"full": StackExit()}
    encoders |= {f"d{depth}": StackExit(depth=depth) for depth in outer(picture)[:-1]}
    for share in ENCODER_QUANTILES if traced.picture else ():
        encoders[f"q{share:g}"] = StackExit(1 - midpoint_quantile(traced.picture, share))
    for encoder, own in encoders.items():
        for decoder, policy in decoders.items():
            if (encoder, decoder) != ("full", "full"):
                exits = {**policy.exits, picture.name: own}
                yield replace(policy, exits=exits, name=f"{rule}-{encoder}-{decoder}")


def _decaying(rule: str, traced: Distances) -> dict[str, Policy]:
    """Decoders of a rule that fixes β: at step 0 the threshold is 1 − β(1 − θ)."""
    beta, policies = RULES[rule].beta or 1.0, dict[str, Policy]()
    for share in DECODER_QUANTILES if traced.decoder else ():
        exits = {DECODER: StackExit(1 - midpoint_quantile(traced.decoder, share) / beta)}
        policies |= {f"q{share:g}-t{tau:g}": Policy(rule, exits, tau=tau) for tau in TAUS}
    return policies


def _free(rule: str, traced: Distances, layout: Layout, horizon: int) -> dict[str, Policy]:
    """Decoders of a rule that leaves β free."""
    decoders: dict[str, Policy] = {}
    layers = layout.decoder.depth

    def add(name: str, own: StackExit) -> None:
        decoders[name] = Policy(rule, {DECODER: own}, beta=1.0)

    for share in DECODER_QUANTILES if traced.decoder else ():
        theta = 1 - midpoint_quantile(traced.decoder, share)
        add(f"q{share:g}", StackExit(theta))
        if share in LATER_QUANTILES:
            add(f"q{share:g}-from2", StackExit(thetas=(None, *(theta for _ in range(layers - 2)))))
    for early, late in SCHEDULES if traced.first and traced.late else ():
        ends = sorted((midpoint_quantile(traced.first, early), midpoint_quantile(traced.late, late)))
        decoders[f"s{early:g}-{late:g}"] = schedule(rule, ends[0], ends[1], horizon)
    for share in BOUNDARY_QUANTILES if traced.boundaries else ():
        own = {depth: 1 - midpoint_quantile(values, share) for depth, values in traced.boundaries.items()}
        for last in LAST_LAYERS:
            if last is None or last < layers:
                thetas = tuple(own.get(depth) for depth in range(1, last or layers))
                add(f"b{share:g}" + (f"-to{last}" if last else ""), StackExit(None, thetas, last))
    return decoders


def outer(stack: Stack) -> list[int]:
    """The first two and the last two depths at which a stack can end."""
    return sorted({*stack.ends[:2], *stack.ends[-2:]})


def levels(rule: str, traced: Distances, layout: Layout) -> Iterator[Policy]:
    """Policies of a rule whose signal means the same at every decoder boundary: its own levels, or a
    threshold at a quantile of the first boundary's distances, and a last layer, times what the encoder may
    do: its `outer` depths, or thresholds of a signal of its own."""
    first, picture = traced.boundaries.get(min(traced.boundaries, default=0), ()), layout.picture
    if not first:
        return
    own = SIGNALS[RULES[rule].signal(DECODER) or SIMILARITY].levels
    thetas = {f"p{i}": theta for i, theta in enumerate(own, 1)}
    thetas = thetas or {f"q{share:g}": 1 - midpoint_quantile(first, share) for share in LEVELS}
    whole = picture.depth
    encoders = {f"d{d}": StackExit(depth=d if d < whole else None) for d in outer(picture)}
    if RULES[rule].signal(picture.name) not in (None, SIMILARITY):
        encoders = {f"d{whole}": StackExit()}
        encoders |= {f"g{share:g}": StackExit(1 - midpoint_quantile(traced.picture, share)) for share in GATES}
    lasts = [last for last in LAST_LAYERS if last is None or last < layout.decoder.depth]
    for share, theta in thetas.items():
        for last in lasts:
            for name, encoder in encoders.items():
                exits = {picture.name: encoder, DECODER: StackExit(theta, depth=last)}
                suffix = f"-to{last}" if last else ""
                yield Policy(rule, exits, beta=1.0, name=f"{rule}-{name}-{share}{suffix}")


def with_text(policies: Iterable[Policy], traces: Iterable[Sequence[ExitDecision]], text: Stack) -> Iterator[Policy]:
    """Policies that exit a text's stack early as well, and those that exit it alone: at every depth under
    the rule "fixed", else after one layer and at quantiles of the traced distances."""
    traced = [max(d.distances) for decisions in traces for d in decisions if d.stack == text.name and d.distances]
    thresholds = {f"q{share:g}": 1 - midpoint_quantile(traced, share) for share in ENCODER_QUANTILES if traced}
    for policy in (Policy("fixed", name="fixed"), Policy("mue", beta=1.0, name="mue"), *policies):
        name = f"{policy.name}-{text.name}"
        for depth in text.ends[:-1] if policy.rule == "fixed" else text.ends[:1]:
            yield replace(policy.with_exit(text.name, depth=depth), name=f"{name}{depth}")
        if policy.rule != "fixed" and policy.signal(text.name) == SIMILARITY:
            for share, theta in thresholds.items():
                yield replace(policy.with_exit(text.name, theta=theta), name=f"{name}-{share}")


def by_rule(traces: Sequence[Sequence[ExitDecision]], layout: Layout, horizon: int) -> Iterator[Policy]:
    """Policies of every rule that can be calibrated and whose signals were traced."""
    picture = layout.picture
    for name, rule in RULES.items():
        if not rule.calibrated:
            continue
        if rule.keep is not None:
            # One stack only is shortened, or all to as many layers: runs of layers that are not the first
            # ones share nothing with others, so all pairs would cost more than the other candidates together.
            yield from (p for p in fixed(layout, name) if len({own.depth for own in p.exits.values()}) == 1)
            continue
        signal, own = rule.signal(DECODER), rule.signal(picture.name)
        traced = distances(traces, picture.name, signal, own)
        if own not in (None, SIMILARITY) and not traced.picture:
            continue
        if signal == SIMILARITY:
            yield from similarity(name, traced, layout, horizon)
        else:
            yield from levels(name, traced, layout)


def by_modality(traces: Sequence[Sequence[ExitDecision]]) -> list[Policy]:
    """Which modality may exit early: MuE's exits in the picture's encoder alone (`image only`), in the
    text's, in both, as far as full depth's traces have tests there.

    The question is the paper's; its answer depends on the task: captions need the picture's layers,
    entailment the text's. Exits are by MuE's own score, at the threshold that half of a stack's tests pass.
    """
    traced: dict[str, list[float]] = {}
    for decision in (d for decisions in traces for d in decisions if d.stack != DECODER and d.distances):
        traced.setdefault(decision.stack, []).append(max(decision.distances))
    exits = {
        stack: StackExit(1 - midpoint_quantile(values, MODALITY_QUANTILE)) for stack, values in sorted(traced.items())
    }
    policies = [Policy("mue", {stack: own}, name=f"{stack} only") for stack, own in exits.items()]
    return [*policies, Policy("mue", exits, name="both")] if len(exits) == 2 else policies
