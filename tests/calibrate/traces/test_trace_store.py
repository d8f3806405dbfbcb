"""Traces on disk: nothing is rounded, nothing is lost to a kill, nothing of another origin is taken."""

from __future__ import annotations

import io
import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mue_edge.bundle.folder import Bundle
from mue_edge.calibrate.traces import trace_store
from mue_edge.calibrate.traces.trace_store import MemoStore, fingerprint, pack, unpack
from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError
from mue_edge.loop.protocol import Answer, Outcome
from mue_edge.loop.replay import run
from mue_edge.loop.search import SearchSettings
from tests.calibrate import symbolic
from tests.calibrate.symbolic import Symbolic, layout, policies

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = SearchSettings(2, max_length=6)
CHOSEN = policies({"image": [0.3, 0.6], "text": [0.5], "decoder": [0.2, 0.5, 0.8]}, 8)


@pytest.fixture
def bundle() -> Bundle:
    return symbolic.bundle()


def traced(store: MemoStore, count: int = len(CHOSEN), pixels: bytes = b"x") -> tuple[list[Outcome], int]:
    """Outcomes of the first policies, and live requests."""
    memo = store.runtime("a", pixels, Symbolic(2))
    return [run(layout(2), SETTINGS, policy, memo) for policy in CHOSEN[:count]], memo.live


def test_records_keep_every_bit() -> None:
    third = 0.333251953125  # a float32
    for answer in (
        Answer(),
        Answer({"score": [third, -0.0], "gap": [1e-7, 2.0]}),
        Answer(candidates=[([5, 50000], [-third, -math.inf], -2.5), ([], [], 0.1)]),
        Answer({"score": [1e300]}),
    ):
        parent, key, back = unpack(pack(70000, b"12345678", answer))
        assert (parent, key) == (70000, b"12345678")
        assert {k: list(v) for k, v in back.scalars.items()} == answer.scalars
        rows = [(list(ids), list(values), eos) for ids, values, eos in back.candidates]
        assert rows == list(answer.candidates)
    assert math.isnan(unpack(pack(0, b"12345678", Answer({"score": [math.nan]})))[2].scalars["score"][0])
    assert len(pack(0, b"12345678", Answer({"gap": [third]}))) < len(pack(0, b"12345678", Answer({"gap": [0.1]})))


def test_a_second_opening_runs_nothing(tmp_path: Path, bundle: Bundle) -> None:
    with MemoStore(tmp_path / "t", bundle) as store:
        first, live = traced(store)
    with MemoStore(tmp_path / "t", bundle) as store:
        assert traced(store) == (first, 0) and live > 0


def test_a_torn_last_record_is_dropped(tmp_path: Path, bundle: Bundle) -> None:
    """Cut within its length, its check, its body; and within the header."""
    with MemoStore(tmp_path, bundle) as store:
        wanted, _ = traced(store, 3)
        path = store.path("a")
    whole = path.read_bytes()
    for end in (*range(0, 300, 60), *range(len(whole) - 60, len(whole), 3), len(whole) - 1):
        path.write_bytes(whole[:end])
        with MemoStore(tmp_path, bundle) as store:
            outcomes, live = traced(store, 3)
        assert outcomes == wanted and live > 0
        assert path.read_bytes() == whole
    path.write_bytes(whole[:-1] + b"?")  # as long as it was, but not what was written
    with MemoStore(tmp_path, bundle) as store:
        assert traced(store, 3)[0] == wanted


def test_damage_before_the_end_is_refused(tmp_path: Path, bundle: Bundle) -> None:
    with MemoStore(tmp_path, bundle) as store:
        traced(store, 2)
        path = store.path("a")
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with MemoStore(tmp_path, bundle) as store, pytest.raises(InputFileError, match="damaged; delete it"):
        traced(store)


def test_other_bundles_pictures_and_runtimes_are_refused(tmp_path: Path, bundle: Bundle) -> None:
    with MemoStore(tmp_path, bundle) as store:
        wanted, _ = traced(store)
    manifest = bundle.manifest
    file = next(iter(manifest.segments.values())).file
    entry = replace(manifest.files[file], sha256="0" * 64)
    other = replace(bundle, manifest=replace(manifest, files={**manifest.files, file: entry}))
    with MemoStore(tmp_path, other) as store, pytest.raises(InputFileError, match="another bundle"):
        traced(store)
    with MemoStore(tmp_path, bundle) as store:
        with pytest.raises(InputFileError, match="another picture"):
            traced(store, pixels=b"y")
        single = Symbolic(2)
        single.threads = 7
        with pytest.raises(InputFileError, match="another runtime"):
            store.runtime("a", b"x", single)
        assert traced(store) == (wanted, 0)


def test_a_new_front_keeps_the_traces(bundle: Bundle) -> None:
    renewed = replace(bundle.manifest, front=(*bundle.manifest.front, {"rule": "never", "name": "more"}))
    assert fingerprint(replace(bundle, manifest=renewed)) == fingerprint(bundle)
    replanned = replace(bundle.manifest, plan_hash="0")
    assert fingerprint(replace(bundle, manifest=replanned)) != fingerprint(bundle)


def test_one_sample_at_a_time_and_one_process_a_sample(tmp_path: Path, bundle: Bundle) -> None:
    with MemoStore(tmp_path, bundle) as store, MemoStore(tmp_path, bundle) as second:
        runtime = Symbolic(2)
        first = store.runtime("a", b"x", runtime)
        with pytest.raises(UsageError, match="another process"):
            second.runtime("a", b"x", Symbolic(2))
        memo = store.runtime("b", b"y", runtime)
        with pytest.raises(UsageError, match="closed"):
            run(layout(2), SETTINGS, CHOSEN[0], first)
        with pytest.raises(UsageError, match="stored sample"):
            memo.set_pixels(b"z")
        second.runtime("a", b"x", Symbolic(2))


def test_a_full_disk_leaves_a_sound_trace(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(io.FileIO):
        room = 12000

        def write(self, data: object) -> int:
            part = bytes(data)[: self.room]  # type: ignore[call-overload]
            self.room -= len(part)
            return super().write(part)

    monkeypatch.setattr(trace_store, "FileIO", Small)
    with MemoStore(tmp_path, bundle) as store:
        with pytest.raises(EnvironmentLacksError, match="full"):
            traced(store)
        path = store.path("a")
    monkeypatch.undo()
    assert 11000 < path.stat().st_size < 12000
    with MemoStore(tmp_path, bundle) as store:
        wanted, live = traced(store)
    with MemoStore(tmp_path / "fresh", bundle) as store:
        undisturbed, all_live = traced(store)
    assert wanted == undisturbed and live < all_live


CHILD = """
import os, signal, sys
from mue_edge.calibrate.traces.trace_store import MemoStore
from tests.calibrate import symbolic
from tests.calibrate.traces import test_trace_store
execute = symbolic.Symbolic.execute
def killed(self, request):
    if len(self.executed) == 150:
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(self, request)
symbolic.Symbolic.execute = killed
with MemoStore(sys.argv[1], symbolic.bundle()) as store:
    test_trace_store.traced(store)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_trace_goes_on_where_it_was(tmp_path: Path, bundle: Bundle) -> None:
    with MemoStore(tmp_path / "whole", bundle) as store:
        wanted, live = traced(store)
        whole = store.path("a").read_bytes()
    assert live > 200
    command = [sys.executable, "-c", CHILD, str(tmp_path / "killed")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    with MemoStore(tmp_path / "killed", bundle) as store:
        resumed, less = traced(store)
        assert store.path("a").read_bytes() == whole
    assert resumed == wanted
    assert live - 150 <= less < live  # what was run before the kill is not asked again, but for buffers
