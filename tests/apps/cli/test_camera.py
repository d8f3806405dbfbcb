"""`mue-edge camera`: lines, JSON, ends and errors."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

import mue_edge
from mue_edge.apps.camera.slot import Frame
from tests.apps.camera import made
from tests.apps.camera.made import Camera
from tests.apps.cli.run import Runner, picture
from tests.apps.served import ask


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's captioner computes nothing."""
    monkeypatch.setattr(mue_edge, "open", lambda bundle, threads: made.captioner())


@pytest.fixture(autouse=True)
def same_signals() -> Iterator[None]:
    """The command's handlers do not outlive the test."""
    before = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)}
    yield
    for which, handler in before.items():
        signal.signal(which, handler)


def test_a_video_headless(run: Runner, tmp_path: Path) -> None:
    done = run("camera", made.video(tmp_path / "v.avi", 3, 6), "--headless", "--speed", "1")
    assert done.code == 0
    lines = done.out.splitlines()
    assert 1 <= len(lines) <= 3 and all("decoder 3.0" in line for line in lines)
    assert "18 frames" in done.err and "like the one before" in done.err


def test_every_frame_as_json(run: Runner, tmp_path: Path) -> None:
    done = run("camera", made.video(tmp_path / "v.avi", 2, 5), "--json", "--no-reuse", "--deadline", "10s")
    *records, last = [json.loads(line) for line in done.out.splitlines()]
    counts = last["counts"]
    assert done.code == 0 and counts["frames"] == 10 and counts["reused"] == 0
    assert len(records) == counts["captioned"] == 10 - counts["dropped"]
    assert all(r["budget"] == 10 and r["tokens"] and not r["reused"] for r in records)


def test_paths_and_a_limit(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tmp_path / "list"
    listed.write_text(f"{tmp_path / 'none.png'}\n{picture(tmp_path / 'a.png')}\n")
    with listed.open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        done = run("camera", "-", "--headless")
    assert done.code == 0 and "a.png: " in done.out
    done = run("camera", made.video(tmp_path / "v.avi"), "--loop", "--limit", "3", "--json", "--speed", "9")
    assert done.code == 0 and len(done.out.splitlines()) == 4


@pytest.mark.parametrize("same", [False, True])
def test_every_listed_path_has_its_line(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    paths = [picture(tmp_path / f"{i}.png", 0 if same else i) for i in range(8)]
    monkeypatch.setattr(mue_edge, "open", lambda bundle, threads: made.captioner(0.002))
    listed = tmp_path / "list"
    listed.write_text("".join(f"{path}\n" for path in paths))
    with listed.open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        done = run("camera", "-", "--headless")
    assert [line.partition(": ")[0] for line in done.out.splitlines()] == [str(path) for path in paths]
    assert "8 frames" in done.err and "0 dropped" in done.err


def test_a_picture_on_standard_input(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")  # more than one read of a pipe
    for data, says in ((tmp_path / "a.png").read_bytes(), ""), (b"II*\0" + bytes(999), "neither a picture"):
        reading, writing = os.pipe()
        threading.Thread(target=pipe, args=(writing, data), daemon=True).start()
        with os.fdopen(reading) as stream:
            monkeypatch.setattr(sys, "stdin", stream)
            done = run("camera", "-", "--headless")
        if says:
            assert done.code == 4 and says in done.err
        else:
            assert done.code == 0 and done.out.startswith("standard input: ") and "1 captioned" in done.err


def pipe(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)


def test_a_lost_camera_ends_with_its_error(run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr("mue_edge.apps.camera.video.POLL_SECONDS", 0.001)
    for way in (["--headless"], ["--port", "0"]):
        done = run("camera", "0", *way)
        assert done.code == 5 and done.err.splitlines()[-1] == (
            "error: camera 0 was lost: it gives no pictures any more"
        )
        assert "3 frames" in done.err


class Hanging(Camera):
    """OpenCV's capture of a camera that says nothing any more, as in a driver that waits."""

    def read(self) -> tuple[bool, Any]:
        if self.left == 0:
            threading.Event().wait(30)
        return super().read()


def test_a_camera_that_hangs_does_not_hold_up_the_end(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would wait for the thread at its own end, or abort if it is in foreign code: it is left."""
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(cv2, "VideoCapture", Hanging)
    ends: list[int] = []
    monkeypatch.setattr("mue_edge.apps.cli.commands.apps.camera.os._exit", ends.append)
    done = run("camera", "0", "--headless", "--no-reuse", "--limit", "1")
    assert done.code == 0 and ends == [0] and "1 captioned" in done.err


def test_mistakes(run: Runner, tmp_path: Path) -> None:
    assert "video file" in run("camera", tmp_path / "none").error(4)
    assert "unit" in run("camera", tmp_path, "--deadline", "80").error(2)
    done = run("camera", made.video(tmp_path / "v.avi"), "--policy", "quick", "--headless")
    assert "no policy 'quick'" in done.error(2)


def test_without_opencv_the_extra_is_named(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert "mue-edge[camera]" in run("camera", "0").error(5)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    picture(tmp_path / "a.png")
    assert run("camera", tmp_path, "--headless", "--limit", "1").code == 0  # a folder needs none


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_page_is_served_until_a_signal(tiny_bundle: Path, tmp_path: Path, how: signal.Signals) -> None:
    picture(tmp_path / "a.png")
    before = sorted(tmp_path.iterdir())
    command = [sys.executable, "-m", "mue_edge", "camera", ".", "--bundle", str(tiny_bundle), "--port", "0"]
    root = str(Path(mue_edge.__file__).parent.parent)
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
    )
    try:
        assert server.stdout is not None
        place = server.stdout.readline().split()[5].rstrip(";")
        assert ask(place, "/").status == 200
    finally:
        server.send_signal(how)
        _, err = server.communicate(timeout=30)
    assert server.returncode == 0 and "Traceback" not in err and "frames:" in err, err
    assert sorted(tmp_path.iterdir()) == before


def test_a_signal_is_not_lost_where_exceptions_are(
    tiny_bundle: Path, tmp_path: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python drops what is raised in a weak reference's callback, and a signal may come in one."""
    picture(tmp_path / "a.png")

    class Gone:
        pass

    read = Frame.read

    def interrupted(self: Frame) -> object:
        gone = Gone()
        reference = weakref.ref(gone, lambda _: signal.raise_signal(signal.SIGTERM))
        del gone
        assert reference() is None
        return read(self)

    monkeypatch.setattr(Frame, "read", interrupted)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    again = threading.Timer(20, os.kill, (os.getpid(), signal.SIGINT))  # else it would go on for ever
    again.start()
    try:
        done = run("camera", tmp_path, "--bundle", tiny_bundle, "--headless")
        assert again.is_alive()
    finally:
        again.cancel()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert done.code == 0 and "1 captioned" in done.err
