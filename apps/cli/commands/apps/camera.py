"""`mue-edge camera`: caption a camera, a video, or a folder that is being filled."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

import mue_edge
from mue_edge.apps.cli.options.common import (
    bundle_option,
    deadline_option,
    host_option,
    json_option,
    policy_option,
    port_option,
    threads_option,
)
from mue_edge.apps.cli.options.pixels import max_pixels_option
from mue_edge.loop.protocol import DECODER

if TYPE_CHECKING:
    from mue_edge.apps.camera.slot import Newest
    from mue_edge.apps.camera.watching import FrameCounts, SeenFrame, Watcher


@click.command("camera")
@click.argument("source", default="0")
@bundle_option
@policy_option()
@deadline_option
@click.option("--alike", type=click.FloatRange(0, 1), default=0.06, show_default=True,
              help="A frame counts as the last one if no part changed more.")  # fmt: skip
@click.option("--no-reuse", is_flag=True, help="Caption every frame, also one like the last.")
@click.option("--headless", is_flag=True, help="No page: captions as lines.")
@json_option("Headless: one JSON object a frame, the counts last.")
@host_option
@port_option(8322)
@click.option("--speed", type=click.FloatRange(0.01, 100), default=1.0, show_default=True, help="Of a video.")
@click.option("--loop", is_flag=True, help="Start a video again at its end.")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many frames with a caption.")
@max_pixels_option
@threads_option()
def command(
    source: str, bundle: str | None, policy: str | None, deadline: float | None, alike: float, no_reuse: bool,
    headless: bool, as_json: bool, host: str, port: int, speed: float, loop: bool, limit: int | None,
    threads: int | None,
) -> None:  # fmt: skip
    """Caption SOURCE as it comes: a camera's number (0), /dev/videoN, a video file, a folder, or "-" for
    a picture, or paths of pictures, on standard input.

    A local page shows picture, caption, exits and time, and has a slider from the fastest policy to full
    depth. Frames that come while one is captioned are dropped for the newest; listed paths wait. A deadline
    is counted from the moment when a frame was taken. Ends with Ctrl-C, or with the source; a camera
    that is lost is an error (exit code 5).
    """
    from mue_edge.apps.camera import sources
    from mue_edge.apps.camera.slot import Newest
    from mue_edge.apps.camera.watching import Watcher

    chosen = sources.choose(source, sys.stdin, speed=speed, loop=loop)
    slot, stop = Newest(), threading.Event()
    with mue_edge.open(bundle, threads=threads) as captioner, contextlib.ExitStack() as page:
        watcher = Watcher(
            captioner, slot, captioner.policy(policy), budget=deadline,
            alike=None if no_reuse else alike, live=chosen.live,
        )  # fmt: skip
        captioner.warm_up()
        _stop_on_signals(watcher)
        reader = chosen.start(slot, stop)
        try:  # from before the page says where it is: a signal may follow at once
            see = (
                _lines(as_json, watcher, chosen.listed)
                if headless or as_json
                else _page(page, watcher, chosen.title, host, port)
            )
            for count, seen in enumerate(watcher.frames(), 1):
                see(seen)
                if count == limit:
                    break
        except KeyboardInterrupt:
            pass
        finally:
            if watcher.stopped:
                click.echo("", err=True)  # after the terminal's ^C
            stop.set()
            reader.join(1.0)
            _tell(as_json, watcher.tally, slot)
    if reader.is_alive():
        _leave()


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


def _leave() -> None:
    """End at once: a thread that hangs in a read cannot be ended, and Python's own end would abort in it."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def _page(page: contextlib.ExitStack, watcher: Watcher, title: str, host: str, port: int) -> Any:
    """Start the page's server; returns what shows a frame on it."""
    from mue_edge.apps import serving
    from mue_edge.apps.camera.server import Live

    listener = page.enter_context(serving.listen(host, port))
    live = Live(watcher, title)
    server = page.enter_context(serving.running(live.app(listener), listener))
    page.callback(live.end)
    click.echo(f"{title}: look at {server.url}; Ctrl-C ends it")
    if not serving.is_loopback(listener):
        click.echo("note: whoever reaches this machine sees what the camera sees", err=True)
    return live.show


def _lines(as_json: bool, watcher: Watcher, listed: bool) -> Any:
    """What prints a frame: JSON for each, or a line for each that was captioned or `listed`."""
    from mue_edge.apps.camera.watching import describe

    def show(seen: SeenFrame) -> None:
        if as_json:
            record = describe(seen, watcher)
            del record["counts"]
            click.echo(json.dumps(record))
            return
        if seen.reused and not listed:
            return
        exits = ", ".join(f"{k} {v}" for k, v in seen.caption.exits.items() if k != DECODER)
        time = f"{seen.latency * 1000:.0f} ms" + (f" of {watcher.budget * 1000:g}" if watcher.budget else "")
        name = f"{seen.name}: " if seen.name else ""
        cut = ", cut short" if seen.caption.deadline and seen.caption.deadline.cut_short else ""
        depth = f"{DECODER} {seen.caption.decoder_layers:.1f}"
        click.echo(f"{name}{seen.caption.text}  ({time}, {exits}, {depth}, {seen.policy}{cut})")

    return show


def _tell(as_json: bool, tally: FrameCounts, slot: Newest) -> None:
    counts = tally.record(slot)
    if as_json:
        click.echo(json.dumps({"counts": counts}))
        return
    click.echo(
        f"{counts['frames']} frames: {counts['captioned']} captioned, {counts['reused']} like the one before "
        f"(about {counts['saved']:.1f} s saved), {counts['dropped']} dropped for newer ones, "
        f"{counts['unreadable']} unreadable\n"
        f"time from frame to caption: median {counts['p50'] * 1000:.0f} ms, "
        f"95 % {counts['p95'] * 1000:.0f} ms; later than the budget: {counts['late']}",
        err=True,
    )
