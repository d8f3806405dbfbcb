"""Candidate policies: every pair of depths, and thresholds at quantiles of the traced gaps.

Scores of a good model crowd above .998, so a grid of thresholds would miss the range in which they
decide; quantiles of the gaps 1 − cosine cannot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import DECODER, ExitDecision, Layout, Stack
from mue_edge.loop.replay import midpoint_quantile
from mue_edge.loop.signals import SIGNALS, SIMILARITY
from mue_edge.rules import RULES

# Shares of the tests that pass.
ENCODER_QUANTILES = (0.25, 0.5, 0.75)
DECODER_QUANTILES = (0.2, 0.4, 0.6, 0.8, 0.9)
LATER_QUANTILES = (0.6, 0.8, 0.9)  # for thresholds from the second layer on
# Of the first step's gaps and of the last steps' gaps: the ends of a schedule that grows milder.
SCHEDULES = ((0.1, 0.7), (0.3, 0.9), (0.6, 0.95))
TAU = 1.0
# Of each boundary's own gaps; the decoder ends after so many layers at the latest (None: all).
BOUNDARY_QUANTILES = (0.2, 0.4, 0.6, 0.8)
LAST_LAYERS = (2, 3, None)
# Of the first boundary's gaps, for signals that are often good enough to leave there nearly always.
LEVELS = (0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.92, 0.95)
# Of all boundaries' gaps of a signal that chooses the encoder's depth before it runs.
GATES = (0.1, 0.25, 0.5, 0.75, 0.9)
TAUS = (0.0, 1.0)  # of rules that fix θ's weight in the decay


@dataclass(frozen=True)
class Gaps:
    """Traced gaps of the tests of the picture's stack and of the decoder; `late` are those of the later
    half of a caption, `boundaries` the decoder's by the layers before the test."""

    picture: tuple[float, ...]
    decoder: tuple[float, ...]
    first: tuple[float, ...]
    late: tuple[float, ...]
    boundaries: Mapping[int, tuple[float, ...]]


def gaps(
    traces: Iterable[Sequence[ExitDecision]], stack: str, signal: str | None = SIMILARITY,
    encoder: str | None = SIMILARITY,
) -> Gaps:  # fmt: skip
    """Of full-depth traced captions, one sequence of decisions each: the decoder's of `signal`, and those of
    the picture's `stack` of `encoder`."""
    picture: list[float] = []
    decoder: list[tuple[int, int, float]] = []
    boundaries: dict[int, list[float]] = {}
    for decisions in traces:
        steps = 1 + max((d.step for d in decisions if d.stack == DECODER), default=0)
        own = (widest(d, encoder) for d in decisions if d.stack == stack)
        picture += [gap for gap in own if gap is not None]
        for d in decisions:
            gap = widest(d, signal)
            if d.stack == DECODER and gap is not None:
                decoder.append((d.step, steps, gap))
                boundaries.setdefault(d.depth, []).append(gap)
    return Gaps(
        tuple(picture),
        tuple(gap for _, _, gap in decoder),
        tuple(gap for step, _, gap in decoder if step == 0),
        tuple(gap for step, steps, gap in decoder if 2 * step >= steps),
        {depth: tuple(own) for depth, own in boundaries.items()},
    )


def widest(decision: ExitDecision, signal: str | None) -> float | None:
    """A signal's gap of the row that is furthest from leaving; None where it was not read."""
    _, found = decision.readings.get(signal or "", ((), decision.distances if signal == SIMILARITY else ()))
    return max(found, default=None)


def fixed(layout: Layout, rule: str = "fixed") -> Iterator[Policy]:
    """Every pair of depths at which the picture's stack and the decoder can end, full depth last."""
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
    """The policy of a rule with MuE's schedule whose decoder gaps go from `first` at step 0 to `late` at N.

    1 − Θ(t) = β(1 − θ) + (1 − β)(1 − e^(−τt/N)), so that β(1 − θ) = first and
    (1 − β)(1 − e^(−τ)) = late − first, at τ = 1.
    """
    beta = min(1.0, max(0.0, 1 - (late - first) / (1 - math.exp(-TAU))))
    theta = 1 - first / beta if beta else 0.0
    return Policy(rule, {DECODER: StackExit(theta)}, beta=beta, tau=TAU, horizon=horizon)


def similarity(rule: str, found: Gaps, layout: Layout, horizon: int) -> Iterator[Policy]:
    """Policies of a rule whose tests read similarity: an encoder's choice times a decoder's.

    Encoder: thresholds, and its `outer` depths. Decoder: constant thresholds, thresholds from the second
    layer on, schedules between quantiles of early and of late gaps, and a threshold for every boundary with
    a last layer; or, where the rule fixes the decay, θ such that it begins at a quantile.
    """
    picture = layout.picture
    decoders = {"full": Policy(rule, beta=1.0)}
    decoders |= _decaying(rule, found) if RULES[rule].beta else _free(rule, found, layout, horizon)
    encoders = {"full": StackExit()}
    encoders |= {f"d{depth}": StackExit(depth=depth) for depth in outer(picture)[:-1]}
    for share in ENCODER_QUANTILES if found.picture else ():
        encoders[f"q{share:g}"] = StackExit(1 - midpoint_quantile(found.picture, share))
    for first, own in encoders.items():
        for second, policy in decoders.items():
            if (first, second) != ("full", "full"):
                exits = {**policy.exits, picture.name: own}
                yield replace(policy, exits=exits, name=f"{rule}-{first}-{second}")


def _decaying(rule: str, found: Gaps) -> dict[str, Policy]:
    """At step 0 the threshold is 1 − β(1 − θ)."""
    beta, made = RULES[rule].beta or 1.0, dict[str, Policy]()
    for share in DECODER_QUANTILES if found.decoder else ():
        theta = 1 - midpoint_quantile(found.decoder, share) / beta
        exits = {DECODER: StackExit(theta)}
        made |= {f"q{share:g}-t{tau:g}": Policy(rule, exits, tau=tau) for tau in TAUS}
    return made


def _free(rule: str, found: Gaps, layout: Layout, horizon: int) -> dict[str, Policy]:
    decoders: dict[str, Policy] = {}
    layers = layout.decoder.depth

    def add(name: str, *exit_: Any) -> None:
        decoders[name] = Policy(rule, {DECODER: StackExit(*exit_)}, beta=1.0)

    for share in DECODER_QUANTILES if found.decoder else ():
        theta = 1 - midpoint_quantile(found.decoder, share)
        add(f"q{share:g}", theta)
        if share in LATER_QUANTILES:
            add(f"q{share:g}-from2", None, (None, *(theta for _ in range(layers - 2))))
    for early, late in SCHEDULES if found.first and found.late else ():
        ends = sorted((midpoint_quantile(found.first, early), midpoint_quantile(found.late, late)))
        decoders[f"s{early:g}-{late:g}"] = schedule(rule, ends[0], ends[1], horizon)
    for share in BOUNDARY_QUANTILES if found.boundaries else ():
        own = {depth: 1 - midpoint_quantile(seen, share) for depth, seen in found.boundaries.items()}
        for last in LAST_LAYERS:
            if last is None or last < layers:
                thetas = tuple(own.get(depth) for depth in range(1, last or layers))
                add(f"b{share:g}" + (f"-to{last}" if last else ""), None, thetas, last)
    return decoders


def outer(stack: Stack) -> list[int]:
    """The first two and the last two depths at which a stack can end."""
    ends = stack.ends
    return sorted({ends[0], ends[min(1, len(ends) - 1)], ends[max(0, len(ends) - 2)], ends[-1]})


def levels(rule: str, found: Gaps, layout: Layout) -> Iterator[Policy]:
    """Policies of a rule whose signal means the same at every decoder boundary: its own levels, or a
    threshold at a quantile of the first boundary's gaps, and a last layer, times what the encoder may do: its
    `outer` depths, or thresholds of a signal of its own."""
    first, picture = found.boundaries.get(min(found.boundaries, default=0), ()), layout.picture
    own = SIGNALS[RULES[rule].signal(DECODER) or SIMILARITY].levels
    thetas = {f"p{i}": theta for i, theta in enumerate(own, 1)}
    thetas = thetas or {f"q{share:g}": 1 - midpoint_quantile(first, share) for share in LEVELS if first}
    whole = picture.depth
    encoders = {f"d{d}": StackExit(depth=d if d < whole else None) for d in outer(picture)}
    if RULES[rule].signal(picture.name) not in (None, SIMILARITY):
        encoders = {f"d{whole}": StackExit()}
        encoders |= {f"g{share:g}": StackExit(1 - midpoint_quantile(found.picture, share)) for share in GATES}
    for share, theta in thetas.items() if first else ():
        for last in LAST_LAYERS:
            if last is not None and last >= layout.decoder.depth:
                continue
            for name, one in encoders.items():
                yield Policy(
                    rule, {picture.name: one, DECODER: StackExit(theta, depth=last)}, beta=1.0,
                    name=f"{rule}-{name}-{share}" + (f"-to{last}" if last else ""),
                )  # fmt: skip


def with_text(
    policies: Iterable[Policy], traces: Iterable[Sequence[ExitDecision]], text: Stack
) -> Iterator[Policy]:
    """Policies that leave a text's stack early as well, and those that leave it alone: at every depth under
    the rule "fixed", else after one layer and at quantiles of the traced gaps."""
    seen = [
        max(d.distances) for decisions in traces for d in decisions if d.stack == text.name and d.distances
    ]
    thresholds = {f"q{share:g}": 1 - midpoint_quantile(seen, share) for share in ENCODER_QUANTILES if seen}
    for policy in (Policy("fixed", name="fixed"), Policy("mue", beta=1.0, name="mue"), *policies):
        name = f"{policy.name}-{text.name}"
        if policy.rule == "fixed":
            for depth in text.ends[:-1]:
                yield replace(policy.with_exit(text.name, depth=depth), name=f"{name}{depth}")
            continue
        yield replace(policy.with_exit(text.name, depth=text.ends[0]), name=f"{name}{text.ends[0]}")
        if policy.signal(text.name) != SIMILARITY:
            continue
        for share, theta in thresholds.items():
            yield replace(policy.with_exit(text.name, theta=theta), name=f"{name}-{share}")


def _one_share(policy: Policy) -> bool:
    """Whether it shortens one stack only, or all to as many layers: runs of layers that are not the first
    ones share nothing with others, so all pairs would cost more than the other candidates together."""
    return len({own.depth for own in policy.exits.values()}) == 1


def by_rule(traces: Sequence[Sequence[ExitDecision]], layout: Layout, horizon: int) -> Iterator[Policy]:
    """Policies of every rule that can be calibrated and whose signals were traced."""
    picture = layout.picture
    for name, rule in RULES.items():
        if not rule.calibrated:
            continue
        if rule.keep is not None:
            yield from (p for p in fixed(layout, name) if _one_share(p))
            continue
        signal, own = rule.signal(DECODER), rule.signal(picture.name)
        found = gaps(traces, picture.name, signal, own)
        if own not in (None, SIMILARITY) and not found.picture:
            continue
        if signal == SIMILARITY:
            yield from similarity(name, found, layout, horizon)
        else:
            yield from levels(name, found, layout)
