"""`mue-edge serve`: an HTTP endpoint that captions pictures."""

from __future__ import annotations

import click

import mue_edge
from mue_edge.completion import MODELS, POLICIES
from mue_edge.pixels_option import max_pixels_option


@click.command("serve")
@click.option(
    "--bundle",
    shell_complete=MODELS,
    metavar="DIR|NAME",
    help="What captions.  [default: the bundled model's]",
)
@click.option(
    "--policy",
    shell_complete=POLICIES,
    metavar="NAME",
    help="Of the bundle's front.  [default: its chosen one]",
)
@click.option("--deadline", metavar="TIME", help="Hard limit a caption, like 50ms.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0 is everywhere."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8321, show_default=True, help="0: any free one."
)
@click.option("--waiting", type=click.IntRange(1, 1000), default=16, show_default=True,
              help="Requests that may wait; more get 503 and Retry-After.")  # fmt: skip
@click.option(
    "--max-bytes", type=click.IntRange(1), default=16 << 20, show_default=True, help="Of a picture."
)
@max_pixels_option
@click.option("--threads", type=click.IntRange(1, 256), help="Threads of the runtime.")
def command(
    bundle: str | None, policy: str | None, deadline: str | None, host: str, port: int, waiting: int,
    max_bytes: int, threads: int | None,
) -> None:  # fmt: skip
    """Serve alt text over HTTP: POST a picture to /caption, get JSON. Ends with Ctrl-C.

    It listens on this machine alone unless --host says otherwise; it knows no passwords, so put nothing but
    a trusted network before it.
    """
    from mue_edge import durations, image
    from mue_edge.apps import serving
    from mue_edge.apps.alt_text.endpoint import Endpoint, Limits

    limit = durations.seconds(deadline) if deadline is not None else None
    with serving.listen(host, port) as listener:
        limits = Limits(pixels=image.pixel_limit(), waiting=waiting, body=max_bytes, deadline=limit)
        endpoint = Endpoint(lambda: mue_edge.open(bundle, threads=threads), policy, limits)
        endpoint.start()
        place = serving.url(listener)

        def ready() -> None:
            click.echo(f"serving at {place}; try: curl --data-binary @picture.png {place}caption")
            if not serving.is_loopback(listener):
                click.echo("note: whoever reaches this machine can use it", err=True)

        serving.serve(endpoint.app(listener), listener, ready)
    click.echo("stopped")
