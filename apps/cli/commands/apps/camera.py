"""`mue-edge camera`: caption a camera, a video, or a folder that is being filled."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

import click

from mue_edge.apps.camera import sources
from mue_edge.apps.camera.slot import Newest
from mue_edge.apps.camera.watching import FrameCounts, SeenFrame, Watcher, describe
from mue_edge.apps.cli.options import common, option, shared, takes
from mue_edge.apps.cli.terminal import say
from mue_edge.loop.protocol import DECODER


@dataclass(frozen=True)
class CameraOptions(common.SessionOptions):
    source: str = shared(click.argument("source", default="0"))
    deadline: float | None = shared(common.deadline_option)
    alike: float = option(
        "A frame counts as the last one if no part changed more.", type=click.FloatRange(0, 1), default=0.06
    )
    no_reuse: bool = option("Caption every frame, also one like the last.")
    headless: bool = option("No page: captions as lines.")
    as_json: bool = shared(common.json_option("Headless: one JSON object a frame, the counts last."))
    host: str = shared(common.host_option)
    port: int = shared(common.port_option(8322))
    speed: float = option("Of a video.", type=click.FloatRange(0.01, 100), default=1.0)
    loop: bool = option("Start a video again at its end.")
    limit: int | None = option("Stop after so many frames with a caption.", type=common.POSITIVE)


@click.command("camera")
@takes(CameraOptions)
@common.max_pixels_option
def command(o: CameraOptions) -> None:
    """Caption SOURCE as it comes: a camera's number (0), /dev/videoN, a video file, a folder, or "-" for
    a picture, or paths of pictures, on standard input.

    A local page shows picture, caption, exits and time, and has a slider from the fastest policy to full
    depth. Frames that come while one is captioned are dropped for the newest; listed paths wait. A deadline
    is counted from the moment when a frame was taken. Ends with Ctrl-C, or with the source; a camera
    that is lost is an error (exit code 5).
    """
    source = sources.choose(o.source, sys.stdin, speed=o.speed, loop=o.loop)
    slot, stop = Newest(), threading.Event()
    with o.open() as captioner, contextlib.ExitStack() as page:
        policy, alike = captioner.policy(o.policy), None if o.no_reuse else o.alike
        watcher = Watcher(captioner, slot, policy, budget=o.deadline, alike=alike, live=source.live)
        captioner.warm_up()
        _stop_on_signals(watcher)
        reader = source.start(slot, stop)
        try:  # from before the page says where it is: a signal may follow at once
            if o.headless or o.as_json:
                show = _lines(o.as_json, watcher, source.listed)
            else:
                show = _page(page, watcher, source.title, o)
            for count, frame in enumerate(watcher.frames(), 1):
                show(frame)
                if count == o.limit:
                    break
        except KeyboardInterrupt:
            pass
        finally:
            if watcher.stopped:
                say("")  # after the terminal's ^C
            stop.set()
            reader.join(1.0)
            _print_counts(o.as_json, watcher.tally, slot)
    if reader.is_alive():
        # A thread that hangs in a read cannot be ended, and Python's own end would abort in it.
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(0)


def _stop_on_signals(watcher: Watcher) -> None:
    """SIGINT and SIGTERM end the frames; a second one interrupts at once. No exception is raised at first:
    in a weak reference's callback, which may run at any time, it would be lost. Scripts start what they put
    behind deaf to SIGINT."""

    def stop(number: int, frame: object) -> None:
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.default_int_handler)
        watcher.stop()

    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, stop)


def _page(page: contextlib.ExitStack, watcher: Watcher, title: str, o: CameraOptions) -> Callable[[SeenFrame], None]:
    """Start the page's server; returns what shows a frame on it."""
    from mue_edge.apps import serving
    from mue_edge.apps.camera.server import Live

    listener = page.enter_context(serving.listen(o.host, o.port))
    live = Live(watcher, title)
    url = page.enter_context(serving.running(live.app(listener), listener))
    page.callback(live.end)
    click.echo(f"{title}: look at {url}; Ctrl-C ends it")
    if not serving.is_loopback(listener):
        say("note: whoever reaches this machine sees what the camera sees")
    return live.show


def _lines(as_json: bool, watcher: Watcher, listed: bool) -> Callable[[SeenFrame], None]:
    """What prints a frame: JSON for each, or a line for each that was captioned or `listed`."""

    def show(frame: SeenFrame) -> None:
        if as_json:
            record = describe(frame, watcher)
            del record["counts"]
            click.echo(json.dumps(record))
            return
        if frame.reused and not listed:
            return
        caption = frame.caption
        exits = ", ".join(f"{k} {v}" for k, v in caption.exits.items() if k != DECODER)
        time = f"{frame.latency * 1000:.0f} ms" + (f" of {watcher.budget * 1000:g}" if watcher.budget else "")
        name = f"{frame.name}: " if frame.name else ""
        cut = ", cut short" if caption.deadline and caption.deadline.cut_short else ""
        depth = f"{DECODER} {caption.decoder_layers:.1f}"
        click.echo(f"{name}{caption.text}  ({time}, {exits}, {depth}, {frame.policy}{cut})")

    return show


def _print_counts(as_json: bool, tally: FrameCounts, slot: Newest) -> None:
    counts = tally.record(slot)
    if as_json:
        click.echo(json.dumps({"counts": counts}))
        return
    say(
        f"{counts['frames']} frames: {counts['captioned']} captioned, {counts['reused']} like the one before "
        f"(about {counts['saved']:.1f} s saved), {counts['dropped']} dropped for newer ones, "
        f"{counts['unreadable']} unreadable\n"
        f"time from frame to caption: median {counts['p50'] * 1000:.0f} ms, "
        f"95 % {counts['p95'] * 1000:.0f} ms; later than the budget: {counts['late']}"
    )
