"""`mue-edge camera` under load, as a user starts it.

Held-out pictures come five times as fast as they are captioned, for two minutes a run: captions against the
budget, memory over time, the end by SIGINT. Then how it ends when its source does; cameras are stand-ins of
OpenCV's.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from mue_edge import machine
from mue_edge.calibrate.report.pages import table
from proving.bundles import bundle
from proving.camera_command import STAND_IN, Camera
from proving.pictures import bundled
from proving.processes import busy, resident
from proving.rendering import Record

SECONDS, TIMES, BUDGET = 120.0, 5.0, 0.05
RATE = 25  # of the film at its own speed
SIZE = (320, 240)
SAMPLE_SECONDS = 0.5
QUIET = True


def film(path: Path, pictures: Sequence[Any]) -> Path:
    """A frame a picture, each somewhere on a ground of its own."""
    import cv2
    from PIL import Image

    draw = np.random.default_rng(0)
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE, SIZE)
    for picture in pictures:
        frame = Image.new("RGB", SIZE, tuple(int(c) for c in draw.integers(160, 256, 3)))
        frame.paste(picture.resize((200, 200)), (int(draw.integers(0, 120)), int(draw.integers(0, 40))))
        out.write(np.asarray(frame)[:, :, ::-1].copy())
    out.release()
    return path


def loaded(camera: Camera, seconds: float, *, budget: float | None) -> dict[str, Any]:
    """The command after so many seconds under load."""
    camera.started()
    began, memory = time.perf_counter(), []
    while time.perf_counter() < began + seconds and camera.process.poll() is None:
        memory.append((time.perf_counter() - began, resident(camera.process.pid)))
        time.sleep(SAMPLE_SECONDS)
    stop, frames, counts = camera.stop(), camera.frames, camera.counts
    latencies = sorted(frame["latency"] for frame in frames)
    quarter = max(1, len(memory) // 4)
    first, last = (statistics.median(mb for _, mb in part) for part in (memory[:quarter], memory[-quarter:]))
    slope = np.polyfit(*zip(*memory[quarter:]), 1)[0] * 60
    return {
        "frames_a_second": round(counts["frames"] / seconds, 1),
        "captioned": counts["captioned"],
        "dropped": counts["dropped"],
        "unreadable": counts["unreadable"],
        "told": len(frames),
        **{f"p{q}_ms": round(1000 * latencies[int(q / 100 * (len(latencies) - 1))], 2) for q in (50, 95, 99)},
        "within": None if budget is None else round(1 - counts["late"] / counts["captioned"], 4),
        "hurried": _share(bool(frame["hurry"]) for frame in frames),
        "cut_short": _share("ended early" in frame["hurry"] for frame in frames),
        "wordless": _share(not frame["text"] for frame in frames),
        "memory_mb": {"first_quarter": round(first, 1), "last_quarter": round(last, 1)},
        "memory_mb_a_minute": round(float(slope), 3),
        "stop": stop,
        "load": machine.load_average(),
    }


def _share(values: Iterator[bool]) -> float:
    return round(statistics.fmean(values), 4)


def fed(paths: Sequence[Path], rate: float, stream: Any, stop: threading.Event) -> None:
    """Paths on a stream, so many a second, until nobody reads them."""
    due = time.perf_counter()
    try:
        for path in itertools.cycle(paths):
            stream.write(f"{path}\n")
            stream.flush()
            due += 1 / rate
            if stop.wait(max(0.0, due - time.perf_counter())):
                return
    except BrokenPipeError:
        return


def figures(place: Path, pictures: Sequence[Any], seconds: float = SECONDS) -> dict[str, Any]:
    """Runs and ends; `seconds` a run."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shown = str(film(work / "film.avi", pictures))
        common = ("--bundle", str(place), "--policy", "full")
        video = (shown, *common, "--no-reuse", "--loop")
        free = loaded(Camera(*video, "--speed", "40"), min(10.0, seconds), budget=None)
        captions = 1000 / free["p50_ms"]
        speed = ("--speed", f"{min(100.0, TIMES * captions / RATE):.2f}")
        tight = free["p50_ms"] / 1000
        runs: dict[str, Any] = {}
        for name, page, budget, others in (
            ("video, lines", False, BUDGET, 0),
            ("video, page", True, BUDGET, 0),
            ("video, lines, two busy processes beside", False, BUDGET, 2),
            ("video, lines, the time of full depth", False, tight, 0),
        ):
            words = (*video, *speed, "--budget", f"{1000 * budget:g}ms")
            with busy(others) if others else nullcontext():
                runs[name] = {"budget_ms": 1000 * budget}
                runs[name] |= loaded(Camera(*words, page=page), seconds, budget=budget)
        runs["paths, lines"] = {"budget_ms": 1000 * BUDGET}
        runs["paths, lines"] |= _paths(work, pictures, common, TIMES * captions, seconds)
        return {
            "captions_a_second": round(captions, 1), "times": TIMES, "seconds": seconds,
            "full_depth": free, "runs": runs, "ends": ends(work, shown, pictures, common),
        }  # fmt: skip


def _paths(work: Path, pictures: Sequence[Any], common: tuple[str, ...], rate: float, seconds: float) -> dict[str, Any]:
    paths = [work / f"{i}.png" for i in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    words = ("-", *common, "--no-reuse", "--budget", f"{1000 * BUDGET:g}ms")
    camera, stop = Camera(*words, stdin=subprocess.PIPE), threading.Event()
    feeder = threading.Thread(target=fed, args=(paths, rate, camera.process.stdin, stop))
    feeder.start()
    found = loaded(camera, seconds, budget=BUDGET)
    stop.set()
    feeder.join()
    return found


def ends(work: Path, shown: str, pictures: Sequence[Any], common: tuple[str, ...]) -> dict[str, Any]:
    """How it ends with its source: seconds after that, exit code, what it says."""
    found: dict[str, Any] = {}
    camera = Camera(shown, *common, "--speed", "20")
    found["a video's end"] = camera.ended(time.perf_counter())
    del found["a video's end"]["seconds"]  # from its start
    filled = work / "filled"
    filled.mkdir()
    pictures[0].save(filled / "a.png")
    camera = Camera(filled.name, *common, cwd=work)
    camera.started()
    (filled / "a.png").unlink()
    filled.rmdir()
    found["a folder that is removed"] = camera.ended(time.perf_counter())
    for name, end in (("a camera that is lost", "return False, None"), ("a camera that hangs", "time.sleep(3600)")):
        shim = work / name.replace(" ", "-")
        shim.mkdir()
        (shim / "cv2.py").write_text(STAND_IN.format(end=end), encoding="utf-8")
        camera = Camera("0", *common, shim=shim)
        camera.started()
        time.sleep(5)
        lost = "lost" in name
        found[name] = camera.ended(time.perf_counter()) if lost else camera.stop()
    return found


def measure() -> dict[str, Any]:
    return figures(bundle(1), bundled(50)[0])


def render(record: Record) -> str:
    """Captions against the budget, and memory."""
    f = record["figures"]
    rows = [
        [
            name,
            f"{r['budget_ms']:.1f} ms",
            f"{r['frames_a_second']:.0f}",
            f"{r['captioned']:,}",
            f"{r['within']:.1%}",
            f"{r['p50_ms']:.1f} / {r['p95_ms']:.1f} / {r['p99_ms']:.1f} ms",
            f"{r['hurried']:.1%}",
            f"{r['wordless']:.1%}",
            f"{r['memory_mb']['first_quarter']:.0f} / {r['memory_mb']['last_quarter']:.0f} MB",
            f"{r['stop']['seconds']:.1f} s, {r['stop']['exit_code']}",
        ]
        for name, r in f["runs"].items()
    ]
    head = ["frames from, shown as", "budget", "frames a second", "captions", "within the budget"]
    head += ["p50 / p95 / p99", "hurried", "no word in time", "memory, first / last quarter"]
    full, times, seconds = f["full_depth"]["p50_ms"], f["times"], f["seconds"]
    words = (
        f"At full depth, without a budget, a caption takes {full:.1f} ms; frames come {times:g} times as "
        f"fast, for {seconds:.0f} s a run; load of the machine {_render_loads(f['runs'])}.\n\n"
    )
    return words + table([*head, "end by SIGINT: time, exit code"], rows)


def render_ends(record: Record) -> str:
    """How it ends with its source."""
    rows = [
        [
            name,
            str(e["exit_code"]),
            f"{e['seconds']:.1f} s" if "seconds" in e else "–",
            f"`{e['said']}`" if e["said"] else "–",
        ]
        for name, e in record["figures"]["ends"].items()
    ]
    return table(["source", "exit code", "after", "last line"], rows)


def _render_loads(runs: dict[str, Any]) -> str:
    values = [run["load"] for run in runs.values()]
    return f"{min(values):.1f}–{max(values):.1f}"
