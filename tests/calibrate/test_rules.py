"""Calibration knows no rule by name: what it enumerates, and that its replay is exact for all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mue_edge.bundle import Bundle, open_bundle
from mue_edge.calibrate import candidates
from mue_edge.calibrate.outcomes import Sample, outcomes
from mue_edge.policy import Policy
from mue_edge.replay import run
from mue_edge.rules import RULES
from mue_edge.rules.rule import Rule, scheduled
from mue_edge.signals import MARGIN
from tests.calibrate.test_memo import pictures
from tests.calibrate.test_outcomes import live, opened

FULL = Policy("never", name="full")
PLUGIN = "a-test-plug-in"


@pytest.fixture
def bundle(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Of a model without heads, in a house with one rule more."""
    monkeypatch.setitem(RULES, PLUGIN, Rule(scheduled, {"decoder": MARGIN}))
    return open_bundle(tiny_bundle)


def enumerated(bundle: Bundle, samples: list[Sample]) -> list[Policy]:
    traces, settings = [], bundle.manifest.search
    runtime = opened(bundle.path)
    for sample in samples:
        runtime.set_pixels(sample.picture)
        found = run(bundle.manifest.loop_layout(), settings, FULL, runtime, trace=True, heads=True)
        traces.append(found.decisions)
    return list(candidates.by_rule(traces, (3, 3), settings.max_length + 1, "image"))


def test_every_rule_is_replayed_exactly(tmp_path: Path, bundle: Bundle) -> None:
    samples = [Sample(f"picture {i}", picture) for i, picture in enumerate(pictures(bundle, 2))]
    policies = enumerated(bundle, samples)
    assert {p.rule for p in policies} == {"mue", "calm-softmax", "deebert", PLUGIN}  # no heads, no classifier
    assert len({p.name for p in policies}) == len(policies)
    # Rules that test alike, tests at some boundaries only, and the head or none at the same exits.
    some = [p for rule in ("calm-softmax", "deebert", PLUGIN) for p in policies if p.rule == rule][::4]
    late = [
        replace(p, theta_decoder=None, thetas_decoder=(None, p.theta_decoder), name=f"{p.name}-late")
        for p in some
    ]
    chosen = [FULL, *some, *late, *[p for p in policies if p.rule == "mue"][::12]]
    depths = set()
    for sample, told in zip(samples, outcomes(bundle.path, tmp_path, chosen, samples), strict=True):
        for policy, mine in zip(chosen, told.runs, strict=True):
            outcome, calls = live(bundle, policy, sample)
            assert mine.segments == calls, policy.name
            assert mine.tokens == outcome.hypotheses[0].tokens and mine.depths == outcome.depths
            depths.add((policy.rule, mine.decoder))
    assert len({d for rule, d in depths if rule == PLUGIN}) > 1, "the plug-in decides nothing"


def test_a_signal_that_was_not_traced_gives_no_candidates(bundle: Bundle) -> None:
    without = candidates.similarity("mue", candidates.gaps([()]), (3, 3), 17, "image")
    assert list(candidates.by_rule([()], (3, 3), 17, "image")) == list(without)
