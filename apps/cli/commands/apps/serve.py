"""`mue-edge serve`: caption pictures over HTTP."""

from __future__ import annotations

import click

import mue_edge
from mue_edge.apps.cli.options.common import (
    bundle_option,
    deadline_option,
    host_option,
    policy_option,
    port_option,
    threads_option,
)
from mue_edge.apps.cli.options.pixels import max_pixels_option


@click.command("serve")
@bundle_option
@policy_option()
@deadline_option
@host_option
@port_option(8321)
@click.option("--waiting", type=click.IntRange(1, 1000), default=16, show_default=True,
              help="Requests that may wait; more get 503 and Retry-After.")  # fmt: skip
@click.option(
    "--max-bytes", type=click.IntRange(1), default=16 << 20, show_default=True, help="Of a picture."
)
@max_pixels_option
@threads_option()
def command(
    bundle: str | None, policy: str | None, deadline: float | None, host: str, port: int, waiting: int,
    max_bytes: int, threads: int | None,
) -> None:  # fmt: skip
    """Serve alt text over HTTP: POST a picture to /caption, get JSON. Ends with Ctrl-C.

    It listens on this machine alone unless --host says otherwise; it knows no passwords, so put nothing but
    a trusted network before it.
    """
    from mue_edge.apps import serving
    from mue_edge.apps.alt_text.endpoint import Endpoint, Limits
    from mue_edge.inputs import image

    with serving.listen(host, port) as listener:
        limits = Limits(pixels=image.pixel_limit(), waiting=waiting, body=max_bytes, deadline=deadline)
        endpoint = Endpoint(lambda: mue_edge.open(bundle, threads=threads), policy, limits)
        endpoint.start()
        place = serving.url(listener)

        def ready() -> None:
            click.echo(f"serving at {place}; try: curl --data-binary @picture.png {place}caption")
            if not serving.is_loopback(listener):
                click.echo("note: whoever reaches this machine can use it", err=True)

        serving.serve(endpoint.app(listener), listener, ready)
    click.echo("stopped")
