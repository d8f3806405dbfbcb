"""Pages show only what was measured."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

import pytest

from mue_edge.calibrate.report.pages import names
from proofs.record import FOLDER, ROOT, is_fresh
from tools import evidence, readme


@pytest.mark.parametrize("path", readme.PAGES, ids=lambda p: p.name)
def test_figures_are_those_of_the_evidence(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert readme.rendered(page) == page, "run: python tools/readme.py"
    assert set(names(page)) <= set(readme.BLOCKS)


def test_a_changed_figure_is_noticed() -> None:
    page = "<!-- evidence: loop -->\n1.00 of everything\n<!-- /evidence -->"
    assert readme.rendered(page) != page


def test_stale_evidence_is_marked() -> None:
    for path in sorted(FOLDER.glob("*.json")):
        if not is_fresh(path):
            warnings.warn(f"{path.name} is stale: the code that it covers has changed", stacklevel=1)


@pytest.mark.parametrize("job", evidence.JOBS.values())
def test_jobs_are_functions(job: str) -> None:
    file, name = job.split(".")
    tree = ast.parse((ROOT / "tools" / "proofs" / f"{file}.py").read_text(encoding="utf-8"))
    (function,) = (f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name == name)
    assert not function.args.args
