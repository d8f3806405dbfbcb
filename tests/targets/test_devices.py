"""Rows of devices: those of targets and those that wait for one."""

from __future__ import annotations

import pytest

from mue_edge import targets
from mue_edge.errors import UsageError


def test_waiting_rows_pretend_no_target() -> None:
    assert targets.DEVICES not in targets.names()
    with pytest.raises(UsageError, match="unknown target 'devices'"):
        targets.target("devices")


def test_every_device_has_one_row() -> None:
    rows = [name for known in targets.names() for name in targets.target(known).devices]
    assert {"raspberry-pi-5", "jetson-orin-nano"} <= set(rows) <= set(targets.devices())
    others = targets.read_toml(targets.FOLDER / f"{targets.DEVICES}.toml")
    assert len(rows) == len(set(rows)) and not set(rows) & set(others)


def test_a_device_by_name() -> None:
    known = targets.device("jetson-orin-nano-super")
    assert known.bandwidth is not None and known.bandwidth.value == 102
    with pytest.raises(UsageError, match=r"unknown device 'abacus'.*jetson-orin-nano"):
        targets.device("abacus")
