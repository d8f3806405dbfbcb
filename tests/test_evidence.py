"""Pages show only what was measured."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

from mue_edge.calibrate.pages import names

ROOT = Path(__file__).resolve().parent.parent


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


readme = tool("readme")


@pytest.mark.parametrize("path", [p for p in readme.PAGES if p.is_file()], ids=lambda p: p.name)
def test_figures_are_those_of_the_evidence(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert readme.rendered(page) == page, "run: python tools/readme.py"
    assert set(names(page)) <= set(readme.BLOCKS)


def test_a_changed_figure_is_noticed() -> None:
    page = "<!-- evidence: loop -->\n1.00 of everything\n<!-- /evidence -->"
    assert readme.rendered(page) != page


def test_stale_evidence_is_marked() -> None:
    evidence = tool("evidence")
    for path in sorted((ROOT / "evidence").glob("*.json")):
        if not evidence.is_fresh(path):
            warnings.warn(f"{path.name} is stale: the code that it covers has changed", stacklevel=1)
