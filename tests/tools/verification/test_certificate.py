"""Pools of real scores are what the bundle says, picture by picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mue_edge import targets
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics import cider
from mue_edge.calibrate.traces.tracing import Sample
from tests.apps.cli.run import picture
from tools.verification import certificate, simulate
from tools.verification.simulate import Pool


def test_pools_are_live_scores_from_slow_to_fast(tiny_bundle: Path, tmp_path: Path) -> None:
    samples = tuple(Sample(str(i), picture(tmp_path / f"{i}.png", i)) for i in range(6))
    with targets.open(tiny_bundle, threads=1) as captioner:

        def say(policy: object) -> list[str]:
            return [captioner.caption(s.picture, policy=policy).text.lower() for s in samples]  # type: ignore[arg-type]

        full = say("full")
        references = tuple((" ".join(text.split()[:5]),) for text in full)
        part = Samples("made", samples, ("a", "a", "b", "c", "d", "e"), references)
        known = cider.frequencies([*references, *((("z",),) * 9)])  # else all words weigh nothing
        chosen = certificate.policies(captioner, part)
        assert len({policy.name for policy in chosen}) == len(chosen) == 8
        pools = certificate.pools(captioner, tmp_path / "traces", chosen, part, known)
        score = cider.Scorer(references, known)
        calls = []
        for policy in sorted(chosen, key=lambda p: list(pools).index(p.name)):
            pool = pools[policy.name]
            assert pool.full.tolist() == score(full)
            assert pool.exits.tolist() == score(say(policy))
            assert pool.clusters == part.clusters
            calls.append(sum(captioner.caption(s.picture, policy=policy).calls for s in samples))
    assert any((pool.full != pool.exits).any() for pool in pools.values())
    assert calls[0] > calls[-1]


def test_each_place_gets_the_policy_whose_drop_is_nearest() -> None:
    pools = {
        f"{drop:.0%}": Pool(np.full(4, 5.0), np.full(4, 5 * (1 - drop)), tuple("abcd"))
        for drop in (0.01, 0.03, 0.04, -0.02)
    }
    found = certificate.cases(pools, [(0.02, 0.05), (0.031, 0.1), (0.5, 0.2)])
    assert [(case.name, case.error) for case in found] == [("1%", 0.05), ("3%", 0.1), ("4%", 0.2)]
    with pytest.raises(ValueError):  # nothing is left that loses
        certificate.cases(pools, [*simulate.PLACES, (0.01, 0.1)])
