"""Calibration knows no rule by name: what it enumerates, and that its replay is exact for all of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.calibrate.policies import candidates
from mue_edge.calibrate.traces.tracing import Sample, traced_runs
from mue_edge.loop.policy import Policy
from mue_edge.loop.replay import run
from mue_edge.loop.signals import MARGIN
from mue_edge.rules import RULES
from mue_edge.rules.rule import Rule, scheduled
from tests.calibrate.traces.test_memo import pictures
from tests.calibrate.traces.test_tracing import live, opened

FULL = Policy("never", name="full")
PLUGIN = "a-test-plug-in"


@pytest.fixture
def bundle(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Of a model without heads, in a house with one rule more."""
    monkeypatch.setitem(RULES, PLUGIN, Rule(scheduled, decoder=MARGIN))
    return open_bundle(tiny_bundle)


def enumerated(bundle: Bundle, samples: list[Sample]) -> list[Policy]:
    traces, settings = [], bundle.manifest.search
    runtime = opened(bundle.path)
    for sample in samples:
        runtime.set_pixels(sample.picture)
        found = run(bundle.manifest.layout, settings, FULL, runtime, trace=True, heads=True)
        traces.append(found.decisions)
    return list(candidates.by_rule(traces, bundle.manifest.layout, settings.max_length + 1))


def test_every_rule_is_replayed_exactly(tmp_path: Path, bundle: Bundle) -> None:
    samples = [Sample(f"picture {i}", picture) for i, picture in enumerate(pictures(bundle, 2))]
    policies = enumerated(bundle, samples)
    # Those that need heads have none here.
    wanted = {"mue", "calm-softmax", "calm-saturation", "deebert", "pabee", "uniform-skip", PLUGIN}
    assert {p.rule for p in policies} == wanted
    assert len({p.name for p in policies}) == len(policies)
    # Rules that test alike, tests at some boundaries only, and the head or none at the same exits.
    rules = ("calm-softmax", "deebert", "pabee", PLUGIN)
    some = [p for rule in rules for p in policies if p.rule == rule][::5]
    late = [
        replace(p.with_exit("decoder", theta=None, thetas=(None, p.stack_exit("decoder").theta)), name=f"{p.name}-late")
        for p in some
    ]
    others = [p for rule in ("mue", "calm-saturation", "uniform-skip") for p in policies if p.rule == rule]
    chosen = [FULL, *some, *late, *others[::9]]
    depths = set()
    for sample, told in zip(samples, traced_runs(bundle.path, tmp_path, chosen, samples), strict=True):
        for policy, mine in zip(chosen, told.runs, strict=True):
            outcome, calls = live(bundle, policy, sample)
            assert mine.segments == calls, policy.name
            assert mine.tokens == outcome.hypotheses[0].tokens and mine.depths == outcome.depths
            depths.add((policy.rule, mine.decoder))
    assert len({d for rule, d in depths if rule == PLUGIN}) > 1, "the plug-in decides nothing"


def test_a_signal_that_was_not_traced_gives_no_candidates(bundle: Bundle) -> None:
    layout = bundle.manifest.layout
    without = candidates.similarity("mue", candidates.distances([()], layout.picture.name), layout, 17)
    found = list(candidates.by_rule([()], layout, 17))
    assert [p for p in found if p.rule == "mue"] == list(without)
    untested = [p for p in found if p.rule != "mue"]
    assert {p.rule for p in untested} == {"calm-saturation", "uniform-skip"}
    assert all(p.stack_exit("decoder").theta is None and p.stack_exit("image").theta is None for p in untested)


def test_a_rule_of_this_file_is_calibrated_exported_and_run(tmp_path: Path, bundle: Bundle) -> None:
    """Nothing else was touched: the house learns stack_exit it from RULES."""
    from PIL import Image

    from mue_edge import targets
    from mue_edge.bundle.folder import with_pareto_front
    from mue_edge.export import golden
    from mue_edge.sessions.captioner import Captioner

    side = bundle.manifest.preprocess
    shown = [Image.fromarray(x) for x in golden.pictures(side.height, side.width, 2)]
    samples = [Sample(f"picture {i}", picture) for i, picture in enumerate(pictures(bundle, 2))]
    mine = [FULL, *(p for p in enumerated(bundle, samples) if p.rule == PLUGIN)]
    found = [told.runs for told in traced_runs(bundle.path, tmp_path / "traces", mine, samples)]
    calls = [sum(len(runs[i].segments) for runs in found) for i in range(len(mine))]
    fastest = min(range(len(mine)), key=calls.__getitem__)
    assert calls[fastest] < calls[0]
    shutil.copytree(bundle.path, tmp_path / "bundle")
    made = with_pareto_front(tmp_path / "bundle", [mine[fastest], FULL], mine[fastest].name)
    with Captioner(made, targets.open_runtime(made, 1)) as captioner:
        for picture, runs in zip(shown, found):
            told = captioner.caption(picture)
            assert captioner.policy().rule == PLUGIN and told.tokens == runs[fastest].tokens
