"""`mue-edge serve`: caption pictures over HTTP."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

from mue_edge import targets
from mue_edge.apps.cli import default_bundle
from mue_edge.apps.cli.options import common, option, shared, takes
from mue_edge.apps.cli.terminal import say
from mue_edge.bundle.folder import open_bundle
from mue_edge.machine import default_threads


@dataclass(frozen=True)
class ServeOptions:
    bundle: str | None = shared(common.bundle_option)
    policy: str | None = shared(common.policy_option())
    workers: int = option(
        "Processes that caption, so many pictures at once; they share the weights.", type=common.THREADS, default=1
    )
    threads: int | None = option("Threads of a worker.  [default: the cores, shared out]", type=common.THREADS)
    deadline: float | None = shared(common.deadline_option)
    host: str = shared(common.host_option)
    port: int = shared(common.port_option(8321))
    waiting: int = option(
        "Requests that may wait; more get 503 and Retry-After.", type=click.IntRange(1, 1000), default=16
    )
    max_bytes: int = option("Of a picture.", type=common.POSITIVE, default=16 << 20)


@click.command("serve")
@takes(ServeOptions)
@common.max_pixels_option
def command(o: ServeOptions) -> None:
    """Serve alt text over HTTP: POST a picture to /caption, get JSON. Ends with Ctrl-C.

    It listens on this machine alone unless --host says otherwise; it knows no passwords, so put nothing but
    a trusted network before it.
    """
    from mue_edge.apps import serving
    from mue_edge.apps.alt_text.answering import Captioning, Limits
    from mue_edge.apps.alt_text.endpoint import Endpoint
    from mue_edge.apps.workers import Workers
    from mue_edge.inputs import image

    limits = Limits(pixels=image.pixel_limit(), waiting=o.waiting, body=o.max_bytes, deadline=o.deadline)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(serving.listen(o.host, o.port))
        folder = default_bundle.bundle_folder(o.bundle, "caption")
        manifest = open_bundle(folder).manifest  # hashed here, if it must be, so that no worker does it
        threads = o.threads or max(1, default_threads() // o.workers)
        shared = None
        if o.workers > 1:
            place = tempfile.TemporaryDirectory(prefix="mue-edge-serve-", ignore_cleanup_errors=True)
            shared = Path(stack.enter_context(place))
        opening = Captioning(functools.partial(targets.open, folder, threads=threads), o.policy, limits, shared)
        workers = stack.enter_context(Workers(opening, o.workers))
        workers.start()
        endpoint = Endpoint(manifest, workers, o.policy, limits)
        url = serving.url(listener)

        def ready() -> None:
            click.echo(f"serving at {url}; try: curl --data-binary @picture.png {url}caption")
            if not serving.is_loopback(listener):
                say("note: whoever reaches this machine can use it")

        serving.serve(endpoint.app(listener), listener, ready, endpoint.stop)
    click.echo("stopped")
