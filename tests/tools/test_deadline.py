"""The proof of deadline mode: what it counts, and what it calls kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mue_edge import targets
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics import cider
from mue_edge.calibrate.traces.tracing import Sample
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.sessions.captioner import Captioner
from proofs import deadline as proof
from tests.apps.cli.run import picture


def test_passes_with_and_without_a_limit(tiny_bundle: Path, tmp_path: Path) -> None:
    samples = tuple(Sample(str(i), picture(tmp_path / f"{i}.png", i)) for i in range(4))
    with targets.open(tiny_bundle, threads=1) as captioner:
        manifest = captioner.bundle.manifest
        quick = Policy(
            "fixed", {"image": StackExit(depth=1), "decoder": StackExit(depth=1)}, name="quick", plan=manifest.plan_hash
        )
        front = (quick.to_json(), *manifest.front)
        two = Captioner(replace(captioner.bundle, manifest=replace(manifest, front=front)), captioner.runtime)
        said = tuple((two.caption(s.picture, policy="full").text.lower(),) for s in samples)
        known = cider.frequencies([*said, ("z",)])
        part = Samples("made", samples, ("a", "b", "c", "d"), said)
        found = proof.figures(two, part, known)
        assert two.runtime is captioner.runtime  # nothing goes on sleeping
    assert json.loads(json.dumps(found)) == found
    assert (found["captions"], found["pictures"]) == (4, "made")
    for kind in ("bursts", "random"):
        full = found[kind]["fixed"]["full"]
        assert (full["exact_match"], full["cider_d"]) == (1.0, pytest.approx(mean_score(said, known)))
        for due in found[kind]["deadline"]:
            assert set(due["fixed_same_time"]) == {"cider_d", "exact_match"}
            assert due["holds"] == proof.holds(due, due["fixed_same_time"])


def mean_score(said: tuple[tuple[str], ...], known: cider.Frequencies) -> float:
    return sum(cider.Scorer(said, known)([text for (text,) in said])) / len(said)


def test_what_is_promised() -> None:
    good = {"within_one_segment": 0.99, "cut_short": 0.05, "cider_d": 9.0}
    assert proof.holds(good, {"cider_d": 10.0})
    for worse in ({"within_one_segment": 0.985}, {"cut_short": 0.055}, {"cider_d": 8.99}):
        assert not proof.holds(good | worse, {"cider_d": 10.0})


def test_a_time_between_two_policies_is_a_mix_of_them() -> None:
    fixed = [{"seconds_mean": 3.0, "cider_d": 6.0}, {"seconds_mean": 1.0, "cider_d": 4.0}]
    assert [proof._at(t, fixed, "cider_d") for t in (0.5, 1.0, 2.0, 3.0, 9.0)] == [4.0, 4.0, 5.0, 6.0, 6.0]
