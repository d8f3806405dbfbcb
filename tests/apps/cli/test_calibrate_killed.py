"""`mue-edge calibrate`, killed and started again, ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mue_edge.loop.protocol import Answer, Request
from mue_edge.targets.host import HostRuntime
from tests.apps.cli import calibrated
from tests.apps.cli.run import Runner

pytest.importorskip("matplotlib")
ROOT = Path(__file__).parents[3]
TRACED, JUDGED = "full depth: ", "policies on the tuning pictures: "  # what it says when that is done
# It is killed so many calls after it said this (nothing: from the start); what it has said by then.
MOMENTS = (("", 30, ()), (TRACED, 40, (TRACED,)), (JUDGED, 15, (TRACED, JUDGED)))
CHILD = """
import os, signal, sys
from mue_edge.apps.cli import main as cli
from mue_edge.apps.cli import terminal
from mue_edge.targets.host import HostRuntime
awaited, left, *words = sys.argv[1:]
execute, say, left, said = HostRuntime.execute, terminal.say, int(left), ""
def noted(text):
    global said
    said += text
    say(text)
def killed(self, request):
    global left
    left -= awaited in said
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(self, request)
terminal.say, HostRuntime.execute = noted, killed
cli.main(words)
"""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every call of a segment in this process."""
    made, execute = list[str](), HostRuntime.execute

    def counted(self: HostRuntime, request: Request) -> Answer:
        made.append(request.run)
        return execute(self, request)

    monkeypatch.setattr(HostRuntime, "execute", counted)
    return made


def words(bundle: Path, out: Path, pictures: Path, times: Path) -> list[str]:
    made = shutil.copytree(bundle, out.with_name(f"{out.name}-bundle"))
    given = ("calibrate", made, "--budget", "80%", "--data", pictures, "--profile", times, "--out", out)
    return [*map(str, given), "--workers", "1"]


def traces(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "traces").iterdir()}


def result(out: Path) -> tuple[Any, ...]:
    """All that a calibration finds, without when and where."""
    record = json.loads((out / "calibration.json").read_text())
    for name in ("date", "command", "asked"):
        record.pop(name, None)
    manifest = json.loads((out.with_name(f"{out.name}-bundle") / "manifest.json").read_text())
    files = tuple((out / name).read_bytes() for name in ("front.json", "plan.json"))
    return record, files, manifest["front"], manifest["chosen"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_three_times_it_ends_as_an_undisturbed_run(
    run: Runner, tiny_bundle: Path, tmp_path: Path, calls: list[str]
) -> None:
    pictures = calibrated.captioned(tmp_path / "pictures", tiny_bundle, 10)
    times = calibrated.elsewhere(tmp_path / "elsewhere.json", tiny_bundle)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    calls.clear()
    done = run(*words(tiny_bundle, whole, pictures, times))
    assert done.code == 0, done.err
    all_calls, wanted = len(calls), traces(whole)

    command = words(tiny_bundle, broken, pictures, times)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    kept: list[dict[str, bytes]] = []
    for awaited, left, said in MOMENTS:
        child = [sys.executable, "-c", CHILD, awaited, str(left), *command]
        ended = subprocess.run(child, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert tuple(words for words in (TRACED, JUDGED) if words in ended.stderr) == said
        assert not (broken / "calibration.json").exists()
        kept.append(traces(broken))
        assert all(wanted[name].startswith(data) for name, data in kept[-1].items())
    sizes = [sum(map(len, found.values())) for found in kept]
    assert sizes == sorted(set(sizes)) and sizes[0] > 0  # also tracing goes on

    calls.clear()
    resumed = run(*command)
    assert resumed.code == 0, resumed.err
    assert len(calls) < all_calls / 2  # what was traced is not run again
    assert traces(broken) == wanted
    assert result(broken) == result(whole)
