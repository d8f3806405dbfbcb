"""`mue-edge serve`: caption pictures over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

import click

from mue_edge.apps.cli.options import common, option, shared, takes
from mue_edge.apps.cli.terminal import say


@dataclass(frozen=True)
class ServeOptions(common.SessionOptions):
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
    from mue_edge.apps.alt_text.endpoint import Endpoint, Limits
    from mue_edge.inputs import image

    with serving.listen(o.host, o.port) as listener:
        pixels = image.pixel_limit()
        limits = Limits(pixels=pixels, waiting=o.waiting, body=o.max_bytes, deadline=o.deadline)
        endpoint = Endpoint(o.open, o.policy, limits)
        endpoint.start()
        url = serving.url(listener)

        def ready() -> None:
            click.echo(f"serving at {url}; try: curl --data-binary @picture.png {url}caption")
            if not serving.is_loopback(listener):
                say("note: whoever reaches this machine can use it")

        serving.serve(endpoint.app(listener), listener, ready)
    click.echo("stopped")
