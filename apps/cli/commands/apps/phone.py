"""`mue-edge phone`: start the app for phones here, or write it as a project."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from mue_edge import targets
from mue_edge.apps.cli.catalogue import DEFAULT
from mue_edge.apps.cli.default_bundle import bundle_folder, cached
from mue_edge.apps.cli.options import common, option, shared, takes
from mue_edge.bundle.folder import open_bundle
from mue_edge.errors import EnvironmentLacksError, UsageError

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")


@dataclass(frozen=True)
class PhoneOptions:
    picture: Path | None = shared(click.argument("picture", required=False, type=click.Path(path_type=Path)))
    bundle: str | None = shared(common.bundle_option)
    policy: str | None = shared(common.policy_option(files=False))
    threads: int | None = shared(common.threads_option())
    project: Path | None = option(
        "Write a Briefcase project of the app there, with the bundle inside.",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
    )
    target: str | None = option(
        "Of a project without --bundle: whose bundle to make.  [default: host]",
        type=click.Choice(("iphone", "android", "host")),
    )


@click.command("phone")
@takes(PhoneOptions)
@common.max_pixels_option
def command(o: PhoneOptions) -> None:
    """Start the app: take or choose a picture, see its caption and the layers that ran, have it read aloud.

    With a bundle that judges statements it has a field for one, and says whether the picture shows it.

    The same app runs on iPhones and Android phones: --project writes what Briefcase builds it from.
    """
    if o.project is None:
        if o.target is not None:
            raise UsageError("--target is for --project; here the app runs what --bundle names")
        _run(o)
        return
    if o.picture is not None or o.policy is not None or o.threads is not None:
        raise UsageError("--project takes --bundle or --target only")
    if o.bundle is not None and o.target is not None:
        raise UsageError("--bundle says what the project is for; leave --target out")
    _write(o.project, o.bundle, o.target or "host")


def _run(o: PhoneOptions) -> None:
    from mue_edge.apps.phone import app
    from mue_edge.inputs.image import load

    # A mistake is reported here, not in a window.
    if o.picture is not None:
        load(o.picture)
    check_display(os.environ)
    session = targets.open_session(bundle_folder(o.bundle), threads=o.threads)
    made = app.make(lambda: session, policy=o.policy, picture=o.picture)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a window system's loop would not let Python see it
    made.main_loop()


def check_display(environment: Mapping[str, str]) -> None:
    """Raises EnvironmentLacksError on Linux without one, where Qt would abort the process."""
    if sys.platform == "linux" and not any(map(environment.get, DISPLAYS)):
        raise EnvironmentLacksError(
            f"no display here ({', '.join(DISPLAYS[:2])} are not set); without one: mue-edge caption, or "
            "mue-edge export --target browser"
        )


def _write(project_folder: Path, bundle: str | None, target: str) -> None:
    from mue_edge.apps.phone import project

    folder = cached(DEFAULT, target) if bundle is None else bundle_folder(bundle)
    platforms = project.write(project_folder, open_bundle(folder))
    click.echo(f"wrote {project_folder}, with {folder}; next, there:")
    click.echo("  pip install briefcase==0.4.7")
    for platform in platforms:
        click.echo(f"  briefcase run {platform}")
    if "linux" not in platforms:
        click.echo("unverified on hardware: docs/phone.md says what to look at")
