"""`mue-edge phone`: start the app for phones here, or write it as a project."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from mue_edge.apps.cli.options.common import bundle_option, policy_option, threads_option
from mue_edge.apps.cli.options.pixels import max_pixels_option

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")


@click.command("phone")
@click.argument("picture", required=False, type=click.Path(path_type=Path))
@bundle_option
@policy_option(files=False)
@max_pixels_option
@threads_option()
@click.option("--project", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Write a Briefcase project of the app there, with the bundle inside.")  # fmt: skip
@click.option("--target", type=click.Choice(("iphone", "android", "host")),
              help="Of a project without --bundle: whose bundle to make.  [default: host]")  # fmt: skip
def command(
    picture: Path | None, bundle: str | None, policy: str | None, threads: int | None, project: Path | None,
    target: str | None,
) -> None:  # fmt: skip
    """Start the app: take or choose a picture, see its caption and the layers that ran, have it read aloud.

    With a bundle that judges statements it has a field for one, and says whether the picture shows it.

    The same app runs on iPhones and Android phones: --project writes what Briefcase builds it from.
    """
    from mue_edge.errors import UsageError

    if project is None:
        if target is not None:
            raise UsageError("--target is for --project; here the app runs what --bundle names")
        _run(picture, bundle, policy, threads)
        return
    if picture is not None or policy is not None or threads is not None:
        raise UsageError("--project takes --bundle or --target only")
    if bundle is not None and target is not None:
        raise UsageError("--bundle says what the project is for; leave --target out")
    _write(project, bundle, target or "host")


def _run(picture: Path | None, bundle: str | None, policy: str | None, threads: int | None) -> None:
    from mue_edge import targets
    from mue_edge.apps.cli.default_bundle import bundle_folder
    from mue_edge.apps.phone import app
    from mue_edge.inputs.image import load

    # A mistake is told here, not in a window.
    if picture is not None:
        load(picture)
    check_display(os.environ)
    session = targets.open_session(bundle_folder(bundle), threads=threads)
    made = app.make(lambda: session, policy=policy, picture=picture)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a window system's loop would not let Python see it
    made.main_loop()


def check_display(environment: Mapping[str, str]) -> None:
    """Raises EnvironmentLacksError on Linux without one, where Qt would abort the process."""
    from mue_edge.errors import EnvironmentLacksError

    if sys.platform == "linux" and not any(map(environment.get, DISPLAYS)):
        raise EnvironmentLacksError(
            f"no display here ({', '.join(DISPLAYS[:2])} are not set); without one: mue-edge caption, or "
            "mue-edge export --target browser"
        )


def _write(place: Path, bundle: str | None, target: str) -> None:
    from mue_edge.apps.cli import default_bundle
    from mue_edge.apps.cli.catalogue import DEFAULT
    from mue_edge.apps.phone import project
    from mue_edge.bundle.folder import open_bundle

    folder = (
        default_bundle.cached(DEFAULT, target) if bundle is None else default_bundle.bundle_folder(bundle)
    )
    platforms = project.write(place, open_bundle(folder))
    click.echo(f"wrote {place}, with {folder}; next, there:")
    click.echo("  pip install briefcase==0.4.7")
    for platform in platforms:
        click.echo(f"  briefcase run {platform}")
    if "linux" not in platforms:
        click.echo("unverified on hardware: docs/phone.md says what to look at")
