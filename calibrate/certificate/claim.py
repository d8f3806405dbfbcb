"""What is claimed, under what conditions, and the certificate that states what was shown.

Order of events, which `pareto_testing` enforces: a `Claim` and all candidates are frozen from *tune*
(`Frozen`); then *certify* is opened, once; the result is a `Certificate`. A certificate holds for captions
of the same source, decoded the same way by the same plan: `Scope`. Anything else makes it void.

The walk is Wiens' fallback procedure (2003): ε is shared out among the first candidates (SHARES), each is
tested at its own share and what the one before it hands on, which is its whole level if it passed, else
nothing. Any false claim is certified with a chance of at most ε, whatever the order was predicted from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mue_edge import schema
from mue_edge.calibrate.certificate.losses import ACCURACY, CIDER_D, CONSISTENCY, LOSSES, NAMES
from mue_edge.errors import UsageError

LIVE, ESTIMATE, SIMULATION = "live", "estimate", "simulation"
SCHEMA = 2
# Of ε: the first candidate's (what was chosen on *tune*) and the second's. The later ones live on what is
# handed on; a lone candidate has all.
SHARES = (0.75, 0.25)


@dataclass(frozen=True)
class Claim:
    """What shall be shown. `max_drop` (δ) of `loss`; `share` of captions within `budget` seconds, if any."""

    max_drop: float = 0.03
    confidence: float = 0.9
    loss: str = CIDER_D
    budget: float | None = None
    share: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UsageError(f"unknown loss {self.loss!r}; known: {', '.join(LOSSES)}")
        for name in ("max_drop", "confidence", "share"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(f"{name} = {getattr(self, name)} does not lie between 0 and 1")
        if self.budget is not None and not 0 < self.budget < float("inf"):
            raise UsageError(f"a budget of {self.budget} seconds")

    @property
    def error(self) -> float:
        """ε: how often, at most, a false claim is certified."""
        return round(1 - self.confidence, 12)


@dataclass(frozen=True)
class Scope:
    """What a claim is tied to: `data` in words, fingerprints of data and idf, decoding, plan hash."""

    data: str
    data_fingerprint: str
    decoding: str
    precision: str
    plan: str
    frequencies: str = ""


@dataclass(frozen=True)
class Conditions:
    """Where times come from. Only `live` ones can be certified, and only under these conditions."""

    kind: str
    device: str
    runtime: str
    threads: int
    load: str
    clocks: str

    def __post_init__(self) -> None:
        if self.kind not in (LIVE, ESTIMATE, SIMULATION):
            raise UsageError(f"times are {self.kind!r}, none of {LIVE}, {ESTIMATE}, {SIMULATION}")


@dataclass(frozen=True)
class Candidate:
    """A policy with its thresholds and what *tune* predicts of it; `cost` in seconds, its `quality`
    a lower bound.

    p-values need not be valid here, they only order: see `pareto_testing.predicted_quality_p`.
    """

    name: str
    policy: Mapping[str, Any]
    p_quality: float
    cost: float
    quality: float
    p_latency: float = 0.0


@dataclass(frozen=True)
class Frozen:
    """The claim and the candidates in walking order, fixed before *certify* is opened."""

    claim: Claim
    scope: Scope
    candidates: tuple[Candidate, ...]
    conditions: Conditions | None = None
    smallest_drop: float | None = None
    schema: int = SCHEMA

    @property
    def tests_latency(self) -> bool:
        return self.claim.budget is not None and self.conditions is not None and self.conditions.kind == LIVE

    def fingerprint(self) -> str:
        """Hash of everything that was fixed; the certificate carries it."""
        return hashlib.sha256(json.dumps(to_json(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Tested:
    """One step of the walk: its level, p-values on *certify*, the drop there, late captions of `timed`."""

    name: str
    level: float
    p_quality: float
    drop: float
    p_latency: float | None = None
    late: int | None = None
    timed: int | None = None

    @property
    def p(self) -> float:
        """Of "one of the two claims is false" (intersection–union: no correction is needed)."""
        return self.p_quality if self.p_latency is None else max(self.p_quality, self.p_latency)

    @property
    def passed(self) -> bool:
        return self.p <= self.level


def next_level(error: float, before: Sequence[Tested], lone: bool) -> float:
    """The level at which the next candidate of a walk is tested; 0 ends the walk."""
    if lone:
        return 0.0 if before else error
    own = error * SHARES[len(before)] if len(before) < len(SHARES) else 0.0
    return own + (before[-1].level if before and before[-1].passed else 0.0)


@dataclass(frozen=True)
class Certificate:
    """The outcome of a walk. `chosen` is "" and `policy` empty when nothing could be certified."""

    claim: Claim
    scope: Scope
    conditions: Conditions | None
    clusters: int
    pictures: int
    tested: tuple[Tested, ...]
    chosen: str
    policy: Mapping[str, Any]
    smallest_drop: float | None
    candidates: str  # fingerprint of Frozen
    statement: str = ""
    schema: int = SCHEMA

    @property
    def certified(self) -> tuple[Tested, ...]:
        """All that were certified, together, at the claim's confidence."""
        return tuple(t for t in self.tested if t.passed)

    @property
    def covers_latency(self) -> bool:
        return bool(self.tested) and self.tested[0].p_latency is not None


def to_json(value: Frozen | Certificate) -> dict[str, Any]:
    """Plain JSON data."""
    data: dict[str, Any] = schema.encode(value)
    return data | {"schema": value.schema}


_KINDS = {
    CIDER_D: "CIDEr-D has frozen document frequencies.",
    ACCURACY: "An answer is right where it is the data's label.",
    CONSISTENCY: "This is consistency, not quality: nothing says that either caption is right.",
}


def state(certificate: Certificate) -> str:
    """The certificate in plain words."""
    claim, scope, conditions = certificate.claim, certificate.scope, certificate.conditions
    basis = f"{certificate.clusters} clusters ({certificate.pictures} pictures) of {scope.data}"
    latency = []
    if claim.budget is not None and not certificate.covers_latency:
        kinds = {ESTIMATE: f"an {ESTIMATE}", SIMULATION: f"a {SIMULATION}"}
        kind = kinds.get(conditions.kind if conditions else "", "not known")
        latency.append(f"There is no certificate of latency: the times are {kind}, not measured live.")
    if not certificate.certified:
        sentences = [
            f"Nothing is certified on {basis}.",
            f"A drop of {claim.max_drop:.3g} was asked with confidence {claim.confidence:.4g}.",
        ]
        smallest = certificate.smallest_drop
        if smallest is not None and smallest > claim.max_drop:
            sentences.append(f"A drop below {smallest:.2g} cannot be expected to pass with so few clusters.")
        return " ".join([*sentences, *latency])
    what = (
        f"gives another caption than full depth for less than {claim.max_drop:.3g} of the pictures"
        if claim.loss == CONSISTENCY
        else f"loses less than {claim.max_drop:.3g} of full depth's {NAMES[claim.loss]}"
    )
    if certificate.covers_latency and conditions is not None and claim.budget is not None:
        c = conditions
        what += (
            f", and more than {claim.share:.3g} of the captions take at most {claim.budget * 1000:.4g} ms"
            f" (on {c.device}, {c.runtime}, threads: {c.threads}, load: {c.load}, clocks: {c.clocks})"
        )
    sentences = [
        f"With confidence {claim.confidence:.4g}: the policy {certificate.chosen!r} {what}.",
        f"Shown on {basis}, as a mean over clusters. {_KINDS[claim.loss]}",
        *latency,
        f"It holds for this source of pictures, {scope.decoding}, {scope.precision}, plan {scope.plan},",
        "and is void for any other; it says nothing of other kinds of pictures.",
    ]
    return " ".join(sentences)
