"""Versions and requirements as this package writes them."""

from __future__ import annotations

import pytest

from mue_edge import versions
from mue_edge.versions import Requirement, fits, parse, release, requirements


@pytest.mark.parametrize(
    ("version", "wanted", "answer"),
    [
        ("1.20", ">=1.20,<2", True),
        ("1.19.9", ">=1.20,<2", False),
        ("1.100", ">=1.20,<2", True),  # numbers, not text
        ("2.0", ">=1.20,<2", False),
        ("2.13.0+cpu", "==2.13.0", True),
        ("2.13", "==2.13.0", True),
        ("2.13.1", "==2.13.0", False),
        ("0.18.7", "==0.18.*", True),
        ("0.180", "==0.18.*", False),
        ("1.4", "!=1.4.*", False),
        ("1.5", "!=1.4.*,!=1.6", True),
        ("1.6", "!=1.6", False),
        ("2.5", "~=2.4", True),
        ("3.0", "~=2.4", False),
        ("2.3", "~=2.4", False),
        ("2", "<=2.0", True),
        ("2.0.1", ">2", True),
        ("7", "", True),
    ],
)
def test_fits(version: str, wanted: str, answer: bool) -> None:
    assert fits(version, wanted) is answer


def test_a_clause_that_is_none() -> None:
    with pytest.raises(ValueError, match="clause"):
        fits("1", "about 1")


def test_release() -> None:
    assert release("1.7.1.116") == (1, 7, 1, 116)
    assert release("2.13.0+cpu") == (2, 13, 0)
    assert release("unknown") == ()


def test_parse() -> None:
    assert parse("click>=8.1") == Requirement("click", ">=8.1")
    assert parse("torch<2.14,>=2.13; extra == 'torch'") == Requirement(
        "torch", "<2.14,>=2.13", "torch", "extra == 'torch'"
    )
    assert parse("mue-edge[torch,host]", "export") == Requirement("mue-edge", "", "export")
    assert parse("tomli (>=2.0)").versions == ">=2.0"
    with pytest.raises(ValueError, match="no requirement"):
        parse("; nothing")


def test_jetpacks_get_the_bindings_of_their_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """JetPack 6 (Python 3.10) gets CUDA 12's bindings and numpy 1, JetPack 7 (3.12) may have CUDA 13's."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    for python, cuda, numpy in (("3.10.12", ">=12.6,<13", ["<2"]), ("3.12.3", ">=12.6,<14", [])):
        monkeypatch.setattr("platform.python_version_tuple", lambda python=python: tuple(python.split(".")))
        found = [r for r in requirements() if r.extra == "jetson-device" and versions.applies(r.marker)]
        assert [r.versions for r in found if r.package == "cuda-python"] == [cuda]
        assert [r.versions for r in found if r.package == "numpy"] == numpy


def test_own_requirements() -> None:
    found = {(r.package, r.extra) for r in requirements()}
    assert {("click", ""), ("numpy", ""), ("Pillow", ""), ("onnxruntime", "host")} <= found
    assert "mue-edge" not in {package for package, _ in found}
    for requirement in requirements():  # every range is one that `fits` can read
        fits("1", requirement.versions)


@pytest.mark.parametrize(
    ("marker", "answer"),
    [
        ("", True),
        ("extra == 'phone'", True),
        ("python_version < '3'", False),
        ("python_version >= '3.9'", True),
        ('(sys_platform == "plan9" and python_version >= "3.9") and extra == "phone"', False),
        ("sys_platform != 'plan9' and python_version >= '3.9'", True),
        ("sys_platform != 'plan9' and python_version >= '4'", False),
    ],
)
def test_applies(marker: str, answer: bool) -> None:
    assert versions.applies(marker) is answer


def test_installed() -> None:
    assert versions.installed("click")
    assert versions.installed("no-such-distribution-here") is None
