"""Candidate policies: every pair of fixed depths, and thresholds at quantiles of the traced gaps.

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
from mue_edge.signals import SIMILARITY

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
# Of the first boundary's gaps, for signals that are good enough to leave there nearly always.
LEVELS = (0.7, 0.8, 0.85, 0.875, 0.9, 0.92, 0.94, 0.97)


@dataclass(frozen=True)
class Gaps:
    """Traced gaps of a stack's tests; `late` are those of the later half of a caption, `boundaries` the
    decoder's by the layers before the test."""

    image: tuple[float, ...]
    decoder: tuple[float, ...]
    first: tuple[float, ...]
    late: tuple[float, ...]
    boundaries: Mapping[int, tuple[float, ...]]


def gaps(traces: Iterable[Sequence[Decision]], signal: str = SIMILARITY) -> Gaps:
    """Of full-depth traced captions, one sequence of decisions each: the decoder's of a signal."""
    image: list[float] = []
    decoder: list[tuple[int, int, float]] = []
    boundaries: dict[int, list[float]] = {}
    for decisions in traces:
        steps = 1 + max((d.step for d in decisions if d.stack == "decoder"), default=0)
        image += [max(d.gaps) for d in decisions if d.stack in ("image", "encoder") and d.gaps]
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


def widest(decision: Decision, signal: str) -> float | None:
    """A signal's gap of the row that is furthest from leaving; None where it was not read."""
    _, found = decision.readings.get(signal, ((), decision.gaps if signal == SIMILARITY else ()))
    return max(found, default=None)


def fixed(encoder: str | None, depths: tuple[int, int]) -> Iterator[Policy]:
    """Every pair of depths (encoder stack, decoder), full depth last; `encoder` None: it has no exits."""
    for image in range(1, depths[0] + 1) if encoder == "image" else (depths[0],):
        for decoder in range(1, depths[1] + 1):
            if (image, decoder) != depths:
                yield Policy(
                    "fixed",
                    depth_image=image if image < depths[0] else None,
                    depth_decoder=decoder if decoder < depths[1] else None,
                    name=f"fixed-{image}-{decoder}",
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
    a last layer.
    """
    decoders: dict[str, Policy] = {"full": Policy(rule, beta=1.0)}
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


def outer(whole: int) -> list[int]:
    """The first two and the last two depths of an encoder of so many layers."""
    return sorted({1, min(2, whole), max(1, whole - 1), whole})


def levels(rule: str, found: Gaps, depths: tuple[int, int], encoder: str | None) -> Iterator[Policy]:
    """Policies of a rule whose signal means the same at every decoder boundary: a threshold at a quantile
    of the first boundary's gaps, and a last layer, times the encoder's `outer` depths."""
    first = found.boundaries.get(min(found.boundaries, default=0), ())
    whole = depths[0]
    images = outer(whole) if encoder == "image" else [whole]
    for share in LEVELS if first else ():
        theta = 1 - between(first, share)
        for last in LAST_LAYERS:
            if last is not None and last >= depths[1]:
                continue
            for image in images:
                yield Policy(
                    rule, theta_decoder=theta, beta=1.0, depth_decoder=last,
                    depth_image=image if image < whole else None,
                    name=f"{rule}-d{image}-q{share:g}" + (f"-to{last}" if last else ""),
                )  # fmt: skip


def by_rule(
    traces: Sequence[Sequence[Decision]], depths: tuple[int, int], horizon: int, encoder: str | None
) -> Iterator[Policy]:
    """Policies of every rule that can be calibrated and whose signal was traced."""
    for name, rule in RULES.items():
        signal = rule.signal("decoder")
        if not rule.calibrated:
            continue
        found = gaps(traces, signal)
        if signal == SIMILARITY:
            yield from similarity(name, found, depths, horizon, encoder)
        else:
            yield from levels(name, found, depths, encoder)
