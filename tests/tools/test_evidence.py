"""Pages show only what was measured, and that it is stale once it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pages import names as blocks

from proofs import load, names
from proving import ROOT, reading, record, rendering
from tools import evidence, readme

ELSEWHERE = {"executorch-kotlin"}  # tools/kotlin_adapter.py writes it


@pytest.mark.parametrize("path", readme.PAGES, ids=lambda p: p.name)
def test_figures_are_those_of_the_evidence(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert readme.rendered(page) == page, "run: python tools/readme.py"


def test_a_changed_figure_is_noticed() -> None:
    page = "<!-- evidence: loop-beam1 -->\n1.00 of everything\n<!-- /evidence -->"
    assert readme.rendered(page) != page


def test_blocks_of_no_proof_are_refused() -> None:
    for name in ("loop", "loop-beam1-own", "memo"):
        with pytest.raises(KeyError, match=name):
            readme.block(name)


def test_what_was_not_measured_says_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme, "read", lambda name: None)
    assert "python tools/evidence.py compare-entail`" in readme.block("compare-entail-own")


def test_proofs_can_be_measured_and_records_have_proofs() -> None:
    for name in names():
        assert callable(load(name).measure), name
        assert "gone" not in reading.digests(getattr(load(name), "DATA", ())).values(), name
    assert {path.stem for path in record.FOLDER.glob("*.json")} <= {*names(), *ELSEWHERE}


def test_every_render_is_on_a_page() -> None:
    shown = {block for path in readme.PAGES for block in blocks(path.read_text(encoding="utf-8"))}
    for name in names():
        for part in (key for key in vars(load(name)) if key.startswith("render")):
            assert name + part.removeprefix("render").replace("_", "-") in shown


def test_pages_are_rendered_without_heavy_libraries() -> None:
    heavy = ("torch", "onnx", "onnxruntime", "executorch", "coremltools", "playwright", "jpype", "optuna")
    code = (
        "import sys, readme\n"
        "for path in readme.PAGES: readme.rendered(path.read_text(encoding='utf-8'))\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tools", capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_rows_that_a_rival_wins_are_in_bold() -> None:
    def of(cpu: float) -> dict[str, dict[str, float]]:
        return {key: {"median": cpu, "low": cpu, "high": cpu} for key in ("cpu", "cpu_without_stem", "wall")}

    rival = {"version": "1", "settings": "as it is", "same_captions": 3}
    rivals = {"fast": rival | {"ratios": {"exits": of(1.5)}}, "slow": rival | {"ratios": {"full depth": of(0.5)}}}
    twin = {"twin": {"cpu_ratio": of(1)["cpu"]}}
    f = {"pictures": 4, "rounds": 5, "policy_origin": "balanced, given", "systems": twin, "rivals": rivals}
    lines = rendering.rivals_table({"small": f}).splitlines()
    assert sum("**" in line for line in lines) == 1
    assert "| small | **exits: balanced ÷ fast** | 1.500 [1.500–1.500] |" in lines[2]
    assert lines[3].endswith("| 3 of 4 |") and "- slow 1: as it is" in lines


def stored(folder: Path, name: str, covers: dict[str, str]) -> None:
    content = {"name": name, "date": "2020-01-01", "commit": "c" * 40, "uncommitted_changes": False,
               "system": "Linux", "covers": covers, "figures": {}}  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def test_a_record_tells_its_age(tmp_path: Path) -> None:
    record.write("a", "command", reading.digests(["Makefile", "NOTICE"]), {"x": 1}, tmp_path)
    fresh = record.read("a", tmp_path)
    assert fresh is not None and set(fresh["covers"]) == {"Makefile", "NOTICE"}
    assert evidence.state("a", tmp_path) == "fresh"
    assert "stale" not in record.source(fresh)
    stored(tmp_path, "b", fresh["covers"] | {"NOTICE": "0" * 16, "not/there.py": "1" * 16})
    stale = record.read("b", tmp_path)
    assert stale is not None and record.source(stale).endswith("\n\n*Measured at cccccccccc; stale.*\n")
    assert evidence.state("b", tmp_path) == "stale: NOTICE and 1 more"
    assert evidence.state("c", tmp_path) == "missing"
