"""Candidate policies: every pair of depths, and thresholds at quantiles of the traced gaps.

Scores of a good model crowd above .998, so a grid of thresholds would miss the range in which they
decide; quantiles of the gaps 1 − cosine cannot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mue_edge.policy import Policy
from mue_edge.protocol import Decision
from mue_edge.replay import between
from mue_edge.rules import RULES
from mue_edge.signals import SIGNALS, SIMILARITY

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
    """Traced gaps of the tests of the picture's encoder and of the decoder; `late` are those of the later
    half of a caption, `boundaries` the decoder's by the layers before the test."""

    image: tuple[float, ...]
    decoder: tuple[float, ...]
    first: tuple[float, ...]
    late: tuple[float, ...]
    boundaries: Mapping[int, tuple[float, ...]]


def gaps(
    traces: Iterable[Sequence[Decision]], signal: str | None = SIMILARITY, encoder: str | None = SIMILARITY
) -> Gaps:
    """Of full-depth traced captions, one sequence of decisions each: the decoder's and the encoder's of these
    signals."""
    image: list[float] = []
    decoder: list[tuple[int, int, float]] = []
    boundaries: dict[int, list[float]] = {}
    for decisions in traces:
        steps = 1 + max((d.step for d in decisions if d.stack == "decoder"), default=0)
        pictures = (widest(d, encoder) for d in decisions if d.stack in ("image", "encoder"))
        image += [gap for gap in pictures if gap is not None]
        for d in decisions:
            gap = widest(d, signal)
            if d.stack == "decoder" and gap is not None:
                decoder.append((d.step, steps, gap))
                boundaries.setdefault(d.depth, []).append(gap)
    return Gaps(
        tuple(image),
        tuple(gap for _, _, gap in decoder),
        tuple(gap for step, _, gap in decoder if step == 0),
        tuple(gap for step, steps, gap in decoder if 2 * step >= steps),
        {depth: tuple(own) for depth, own in boundaries.items()},
    )


def widest(decision: Decision, signal: str | None) -> float | None:
    """A signal's gap of the row that is furthest from leaving; None where it was not read."""
    _, found = decision.readings.get(signal or "", ((), decision.gaps if signal == SIMILARITY else ()))
    return max(found, default=None)


def fixed(encoder: str | None, depths: tuple[int, int], rule: str = "fixed") -> Iterator[Policy]:
    """Every pair of depths (encoder stack, decoder), full depth last; `encoder` None: it has no exits."""
    for image in range(1, depths[0] + 1) if encoder == "image" else (depths[0],):
        for decoder in range(1, depths[1] + 1):
            if (image, decoder) != depths:
                yield Policy(
                    rule,
                    depth_image=image if image < depths[0] else None,
                    depth_decoder=decoder if decoder < depths[1] else None,
                    name=f"{rule}-{image}-{decoder}",
                )


def schedule(rule: str, first: float, late: float, horizon: int) -> Policy:
    """The policy of a rule with MuE's schedule whose decoder gaps go from `first` at step 0 to `late` at N.

    1 − Θ(t) = β(1 − θ) + (1 − β)(1 − e^(−τt/N)), so that β(1 − θ) = first and
    (1 − β)(1 − e^(−τ)) = late − first, at τ = 1.
    """
    beta = min(1.0, max(0.0, 1 - (late - first) / (1 - math.exp(-TAU))))
    theta = 1 - first / beta if beta else 0.0
    return Policy(rule, theta_decoder=theta, beta=beta, tau=TAU, horizon=horizon)


def similarity(
    rule: str, found: Gaps, depths: tuple[int, int], horizon: int, encoder: str | None
) -> Iterator[Policy]:
    """Policies of a rule whose tests read similarity: an encoder's choice times a decoder's.

    Encoder: thresholds, and its `outer` depths. Decoder: constant thresholds, thresholds from the second
    layer on, schedules between quantiles of early and of late gaps, and a threshold for every boundary with
    a last layer; or, where the rule fixes the decay, θ such that it begins at a quantile.
    """
    decoders = {"full": Policy(rule, beta=1.0)}
    decoders |= _decaying(rule, found) if RULES[rule].beta else _free(rule, found, depths, horizon)
    images: dict[str, Policy] = {"full": Policy(rule)}
    if encoder == "image":
        images |= {f"d{depth}": Policy(rule, depth_image=depth) for depth in outer(depths[0])[:-1]}
        for share in ENCODER_QUANTILES if found.image else ():
            images[f"q{share:g}"] = Policy(rule, theta_image=1 - between(found.image, share))
    for image, first in images.items():
        for decoder, second in decoders.items():
            if (image, decoder) != ("full", "full"):
                yield replace(
                    second,
                    theta_image=first.theta_image,
                    depth_image=first.depth_image,
                    name=f"{rule}-{image}-{decoder}",
                )


def _decaying(rule: str, found: Gaps) -> dict[str, Policy]:
    """At step 0 the threshold is 1 − β(1 − θ)."""
    beta, made = RULES[rule].beta or 1.0, dict[str, Policy]()
    for share in DECODER_QUANTILES if found.decoder else ():
        theta = 1 - between(found.decoder, share) / beta
        made |= {f"q{share:g}-t{tau:g}": Policy(rule, theta_decoder=theta, tau=tau) for tau in TAUS}
    return made


def _free(rule: str, found: Gaps, depths: tuple[int, int], horizon: int) -> dict[str, Policy]:
    decoders: dict[str, Policy] = {}
    for share in DECODER_QUANTILES if found.decoder else ():
        theta = 1 - between(found.decoder, share)
        decoders[f"q{share:g}"] = Policy(rule, theta_decoder=theta, beta=1.0)
        if share in LATER_QUANTILES:
            later = (None, *(theta for _ in range(depths[1] - 2)))
            decoders[f"q{share:g}-from2"] = Policy(rule, thetas_decoder=later, beta=1.0)
    for early, late in SCHEDULES if found.first and found.late else ():
        ends = sorted((between(found.first, early), between(found.late, late)))
        decoders[f"s{early:g}-{late:g}"] = schedule(rule, ends[0], ends[1], horizon)
    for share in BOUNDARY_QUANTILES if found.boundaries else ():
        own = {depth: 1 - between(seen, share) for depth, seen in found.boundaries.items()}
        for last in LAST_LAYERS:
            if last is None or last < depths[1]:
                thetas = tuple(own.get(depth) for depth in range(1, last or depths[1]))
                name = f"b{share:g}" + (f"-to{last}" if last else "")
                decoders[name] = Policy(rule, thetas_decoder=thetas, beta=1.0, depth_decoder=last)
    return decoders


def outer(whole: int) -> list[int]:
    """The first two and the last two depths of an encoder of so many layers."""
    return sorted({1, min(2, whole), max(1, whole - 1), whole})


def levels(rule: str, found: Gaps, depths: tuple[int, int], encoder: str | None) -> Iterator[Policy]:
    """Policies of a rule whose signal means the same at every decoder boundary: its own levels, or a
    threshold at a quantile of the first boundary's gaps, and a last layer, times what the encoder may do: its
    `outer` depths, or thresholds of a signal of its own."""
    first = found.boundaries.get(min(found.boundaries, default=0), ())
    own = SIGNALS[RULES[rule].signal("decoder") or SIMILARITY].levels
    thetas = {f"p{i}": theta for i, theta in enumerate(own, 1)}
    thetas = thetas or {f"q{share:g}": 1 - between(first, share) for share in LEVELS if first}
    whole = depths[0]
    images = {f"d{whole}": Policy(rule)}
    if encoder == "image" and RULES[rule].signal("image") in (None, SIMILARITY):
        images = {f"d{d}": Policy(rule, depth_image=d if d < whole else None) for d in outer(whole)}
    elif encoder == "image":
        images |= {
            f"g{share:g}": Policy(rule, theta_image=1 - between(found.image, share)) for share in GATES
        }
    for share, theta in thetas.items() if first else ():
        for last in LAST_LAYERS:
            if last is not None and last >= depths[1]:
                continue
            for image, one in images.items():
                yield replace(
                    one, theta_decoder=theta, beta=1.0, depth_decoder=last,
                    name=f"{rule}-{image}-{share}" + (f"-to{last}" if last else ""),
                )  # fmt: skip


def with_text(
    policies: Iterable[Policy], traces: Iterable[Sequence[Decision]], whole: int
) -> Iterator[Policy]:
    """Policies that leave a text stack of `whole` layers early as well, and those that leave it alone: at
    every depth under the rule "fixed", else after one layer and at quantiles of the traced gaps."""
    seen = [max(d.gaps) for decisions in traces for d in decisions if d.stack == "text" and d.gaps]
    thresholds = {f"q{share:g}": 1 - between(seen, share) for share in ENCODER_QUANTILES if seen}
    for policy in (Policy("fixed", name="fixed"), Policy("mue", beta=1.0, name="mue"), *policies):
        if policy.rule == "fixed":
            for depth in range(1, whole):
                yield replace(policy, depth_text=depth, name=f"{policy.name}-text{depth}")
            continue
        yield replace(policy, depth_text=1, name=f"{policy.name}-text1")
        if policy.signal("text") is None:
            continue
        for name, theta in thresholds.items():
            yield replace(policy, theta_text=theta, name=f"{policy.name}-text-{name}")


def _one_share(policy: Policy) -> bool:
    """Whether it shortens one stack only, or both to as many layers: runs of layers that are not the first
    ones share nothing with others, so all pairs would cost more than the other candidates together."""
    image, decoder = policy.depth_image, policy.depth_decoder
    return image is None or decoder is None or image == decoder


def by_rule(
    traces: Sequence[Sequence[Decision]], depths: tuple[int, int], horizon: int, encoder: str | None
) -> Iterator[Policy]:
    """Policies of every rule that can be calibrated and whose signals were traced."""
    for name, rule in RULES.items():
        if not rule.calibrated:
            continue
        if rule.keep is not None:
            yield from (p for p in fixed(encoder, depths, name) if _one_share(p))
            continue
        signal, own = rule.signal("decoder"), rule.signal(encoder or "")
        found = gaps(traces, signal, own)
        if own not in (None, SIMILARITY) and not found.image:
            continue
        if signal == SIMILARITY:
            yield from similarity(name, found, depths, horizon, encoder)
        else:
            yield from levels(name, found, depths, encoder)
