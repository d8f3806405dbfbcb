"""Estimates: the roofline by hand, and figures that nobody published."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mue_edge import targets
from mue_edge.calibrate.plans.estimate import estimate
from mue_edge.errors import InputFileError, UsageError
from mue_edge.measuring.profile import ESTIMATE
from mue_edge.targets import Device, Figure
from tests.made_bundle import bundle


def figure(value: float) -> Figure:
    return Figure(value, "made up", "assumption")


ROW = Device(
    "Made", bandwidth=figure(10), rates={"fp16": figure(2), "int8": figure(4)}, dispatch=figure(20)
)  # 10 GB/s, 2 and 4 · 10¹² operations a second, 20 µs a call


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the one device that is known."""

    def put(**changes: Any) -> None:
        monkeypatch.setattr(targets, "devices", lambda: {"made": replace(ROW, **changes)})

    put()
    return put


def test_the_roofline_by_hand(row: Any) -> None:
    """fp32 → fp16: 1 MB of weights become .5 MB, two ports of 250 values 1 kB: 50.1 µs at 10 GB/s;
    2 · 10⁹ operations at 2 · 10¹² a second are 1000 µs: arithmetic is the roof."""
    found = estimate(bundle().manifest, "made")
    assert found.kind == ESTIMATE and found.precision == "fp16"
    assert found.segments["decoder.0"].median == pytest.approx(1000e-6 + 20e-6)
    # A look-up reads its rows, not its table.
    assert found.segments["embed"].median == pytest.approx(0.1e-6 + 20e-6)
    row(bandwidth=figure(0.1))
    slow = estimate(bundle().manifest, "made").segments["decoder.0"]
    assert slow.median == pytest.approx(5010e-6 + 20e-6)
    assert slow.calls == 0 and slow.spread == 0 and slow.p95 == slow.median


def test_int8_leaves_some_segments_in_float(row: Any) -> None:
    found = estimate(bundle().manifest, "made", "int8")
    assert found.segments["decoder.0"].median == pytest.approx(500e-6 + 20e-6)
    for name in ("stem", "fill.1"):
        assert found.segments[name].median == pytest.approx(1000e-6 + 20e-6)
    row(bandwidth=figure(0.1))  # weights: a quarter of fp32's; of an int8 bundle's, as they are
    assert estimate(bundle().manifest, "made", "int8").segments["decoder.0"].median == pytest.approx(2530e-6)
    quantised = estimate(bundle("int8").manifest, "made")
    assert quantised.precision == "int8"
    assert quantised.segments["decoder.0"].median == pytest.approx(10030e-6)
    assert quantised.segments["stem"].median == pytest.approx(5030e-6)


@pytest.mark.parametrize(
    "changes, precision, word",
    [
        ({"bandwidth": None}, None, "bandwidth"),
        ({"dispatch": None}, None, "dispatch"),
        ({"rates": {}}, None, r"rates\.fp32"),
        ({}, "fp32", r"rates\.fp32"),
        ({"rates": {"int8": figure(4)}}, "int8", r"rates\.fp16"),
    ],
)
def test_a_figure_that_nobody_published_is_named(row: Any, changes: Any, precision: Any, word: str) -> None:
    row(**changes)
    with pytest.raises(UsageError, match=rf"no published figure for .*{word}.*mue-edge profile"):
        estimate(bundle().manifest, "made", precision)


def test_unknown_devices_precisions_and_old_bundles(row: Any) -> None:
    with pytest.raises(UsageError, match="known devices: made"):
        estimate(bundle().manifest, "pocket-calculator")
    with pytest.raises(UsageError, match="fp32, fp16, int8"):
        estimate(bundle().manifest, "made", "fp64")
    m = bundle().manifest
    old = replace(m, segments={name: replace(s, macs=0) for name, s in m.segments.items()})
    with pytest.raises(InputFileError, match="export the bundle again"):
        estimate(old, "made")


def test_the_shipped_rows() -> None:
    """A faster board is estimated faster; every figure has a source, and guesses are no vendor's."""
    m = bundle().manifest
    slow, fast = (estimate(m, name) for name in ("jetson-orin-nano", "jetson-orin-nano-super"))
    assert fast.predict(["stem", "head"]) < slow.predict(["stem", "head"])
    assert "assumption" in slow.label and "fp16" in slow.label
    with pytest.raises(UsageError, match=r"no published figure for .*rates.*jetson-orin-nano-super"):
        estimate(m, "iphone-15-pro")
    for device in targets.devices().values():
        figures = [device.bandwidth, device.dispatch, *device.rates.values()]
        for known in filter(None, figures):
            assert known.value > 0 and known.source and known.tier in ("A", "B", "C", "assumption")
