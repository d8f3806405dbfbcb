"""A head over many words: what it costs in layers, and a profile as if it were a model's."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from mue_edge.calibrate.plans import vocabulary
from mue_edge.loop.protocol import Stage
from mue_edge.measuring.profile import SegmentTime
from tests.calibrate.plans.test_times import Slowed, profiled
from tests.made_bundle import Clock


def test_a_large_head_is_measured_in_layers_and_grows_with_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "ROUNDS", 2)
    monkeypatch.setattr(vocabulary.bench, "SAMPLE_SECONDS", 0.02)
    large = vocabulary.measured(59_457, "ofa-tiny")
    # 59,457 · 256 weights against some 14 · 256² of a layer, which also reads the encoder's keys and values.
    assert large.layers > 1 and (large.words, large.size) == (59_457, "ofa-tiny")


def test_only_the_head_is_repriced_by_the_models_own_layers() -> None:
    times = profiled(Slowed(Clock()))
    own = {"decoder.0": SegmentTime(2e-3, 3e-3, 1e-4, 9), "decoder.1": SegmentTime(4e-3, 5e-3, 1e-4, 9)}
    times = replace(times, segments={**times.segments, **own, "head": SegmentTime(1e-3, 2e-3, 1e-4, 9)})
    stages = (Stage("decoder.0", 1), Stage("decoder.1", 3))  # three layers of 2 ms on average
    found = vocabulary.repriced(times, stages, vocabulary.LargeHead(59_457, 4.0, "ofa-base", 1.0))
    assert found.segments["head"].median == pytest.approx(8e-3)
    assert found.segments["head"].p95 == pytest.approx(16e-3)
    rest = {name: time for name, time in times.segments.items() if name != "head"}
    assert {name: time for name, time in found.segments.items() if name != "head"} == rest
    assert found.predict(["decoder.0", "head"]) == pytest.approx(times.predict(["decoder.0", "head"]) + 7e-3)
