"""`mue-edge caption`: caption pictures."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mue_edge.apps.cli.completion import pictures
from mue_edge.apps.cli.options.common import deadline_option, json_option, policy_option, threads_option
from mue_edge.apps.cli.options.pixels import max_pixels_option
from mue_edge.apps.cli.options.types import NewFile
from mue_edge.errors import command_line

if TYPE_CHECKING:
    from mue_edge.inputs.image import NamedPicture
    from mue_edge.loop.lossless import Payoff
    from mue_edge.loop.policy import Policy
    from mue_edge.sessions.captioner import Caption, Captioner


@click.command("caption")
@click.argument("given", shell_complete=pictures, nargs=-1, required=True, metavar="[BUNDLE] IMAGES...")
@policy_option()
@json_option("One JSON object a picture and line.")
@click.option("--beam", type=click.IntRange(1), help="Beams, up to what the bundle was exported for.")
@deadline_option
@click.option("--lossless", is_flag=True, help="Full depth's caption: exits only draft it (greedy).")
@click.option("--profile", metavar="FILE", help="With --lossless: draft only while that pays by these times.")
@click.option("--trace", is_flag=True, help="Read every exit score; draw the exits by layer and token.")
@click.option("--svg", type=NewFile(), help="With one picture: draw its exits to this file.")
@max_pixels_option
@threads_option()
def command(
    given: tuple[str, ...], policy: str | None, as_json: bool, beam: int | None,
    deadline: float | None, lossless: bool, profile: str | None, trace: bool, svg: Path | None,
    threads: int | None,
) -> int:  # fmt: skip
    """Caption pictures with a BUNDLE: a folder, or a bundled model's name, such as stickers.

    Without one the bundled model captions; its bundle is made once and kept in your cache.

    IMAGES are files, folders, http(s) addresses, or "-" for standard input: a picture, or a list of files.
    A picture that cannot be used is named on standard error and the others are still captioned; the exit
    code is then 4.
    """
    from mue_edge import targets
    from mue_edge.errors import InputFileError, UsageError
    from mue_edge.inputs import gathering

    bundle, images = _chosen(given)
    with targets.open(bundle, threads=threads) as captioner:
        chosen = captioner.policy(policy)
        captioner.settings(beam)  # a beam that cannot be run stops here
        if profile and not lossless:
            raise UsageError("--profile says when --lossless pays; give both")
        draft = _payoff(captioner, profile) if profile else lossless
        files = gathering.gather(images)
        if svg and len(files) != 1:
            raise UsageError(f"--svg draws one picture; {len(files)} were given")
        if deadline is not None:
            _ready(captioner, chosen)

        def show(file: Path | NamedPicture) -> bool:
            """Whether the picture could be used. It is freed here, so that no two are in memory."""
            try:
                picture = captioner.load(file)
            except InputFileError as problem:
                click.echo(f"error: {problem}", err=True)
                return False
            live = len(files) == 1 and not as_json and sys.stdout.isatty()
            if len(files) > 1 and not as_json:
                click.echo(f"{file}: ", nl=False)
            result = _caption(
                captioner, picture, live, policy=chosen, beam=beam, trace=trace or svg is not None,
                deadline=deadline, lossless=draft,
            )  # fmt: skip
            if as_json:
                click.echo(json.dumps(_record(file, result, trace)))
                return True
            if not live:
                click.echo(result.text)
            if not trace:
                _tell(file, result)
            if trace:
                _draw(captioner, result)
            if svg:
                _draw_svg(captioner, result, picture.rgb, svg)
            return True

        shown = [show(file) for file in files]
    return 0 if all(shown) else 4


def _chosen(given: Sequence[str]) -> tuple[Path, Sequence[str]]:
    """The bundle's folder, and the pictures: the first of `given` is a bundle (or a model, which is an error)
    or a bundled model's name if it can be, else a picture for the bundled model.

    Raises UsageError without pictures, InputFileError for a first one that is nothing.
    """
    from mue_edge.apps.cli import default_bundle as bundles
    from mue_edge.errors import UsageError
    from mue_edge.inputs import gathering

    first, *others = given
    if bundles.is_bundle(first) and not others:
        own = f"; for those in the folder {first}: {command_line('caption', f'./{first}')}"
        raise UsageError(
            f"no picture was named; the command is: {command_line('caption', first, 'PICTURE')}"
            + (own if gathering.is_picture_argument(first) else "")
        )
    if bundles.is_bundle(first) or bundles.is_model(first):
        return bundles.bundle_folder(first, "caption"), others
    if not gathering.is_picture_argument(first):
        raise bundles.nothing(
            first, "a picture, a folder of pictures, an http(s) address, or - for what is on standard input"
        )
    late = [name for name in others if bundles.is_bundle(name)]
    if late:
        raise UsageError(f"a bundle goes before its pictures: {command_line('caption', late[0], first)}")
    return bundles.bundle_folder(None), given


def _caption(captioner: Captioner, picture: Any, live: bool, **how: Any) -> Caption:
    """The caption; `live` writes its text as it grows (a beam's best row may change its mind). `how`: as
    `Captioner.stream` takes it."""
    shown = ""
    steps = captioner.stream(picture, **how)
    while True:
        try:
            text = next(steps)
        except StopIteration as end:
            result: Caption = end.value
            if live:
                _grow(shown, result.text)
                click.echo()
            return result
        if live:
            _grow(shown, text)
            shown = text


def _payoff(captioner: Captioner, file: str) -> Payoff:
    from mue_edge.loop import lossless
    from mue_edge.measuring import profile

    known = profile.read(file)
    known.check_fits(captioner.bundle)
    return lossless.Payoff(captioner.layout, known.call_seconds)


def _grow(shown: str, text: str) -> None:
    if text.startswith(shown):
        click.echo(text[len(shown) :], nl=False)
    else:
        click.echo(f"\r\x1b[K{text}", nl=False)


def _ready(captioner: Captioner, policy: Policy) -> None:
    """Load the segments before the first clock starts, and say what the front has to offer."""
    captioner.warm_up()
    if not captioner.faster(policy):
        click.echo(
            "note: this bundle's front has no policy that is faster than "
            f"{policy.name or policy.rule}, so a late caption can only end early; "
            f"mue-edge calibrate makes a front",
            err=True,
        )


def _tell(file: Path | NamedPicture, result: Caption) -> None:
    """On standard error, if the clock changed the caption."""
    if result.deadline and (result.deadline.cut_short or result.deadline.hurried):
        from mue_edge.sessions import draw

        click.echo(f"note: {file}: {draw.deadline_summary(result.deadline)}", err=True)


def _record(file: Path | NamedPicture, result: Caption, trace: bool) -> dict[str, Any]:
    record = {
        "file": str(file), "text": result.text, "tokens": list(result.tokens), "score": result.score,
        "exits": dict(result.exits), "decoder_layers": result.decoder_layers,
        "seconds": dict(result.seconds), "calls": result.calls,
    }  # fmt: skip
    if result.deadline:
        record["deadline"] = result.deadline.to_json()
    if trace:
        record["decisions"] = [decision.to_json() for decision in result.decisions]
    return record


def _draw(captioner: Captioner, result: Caption) -> None:
    from mue_edge.sessions import draw

    drawing = draw.drawing_of(result, captioner.layout, captioner.tokenizer)
    click.echo(draw.as_text(drawing, shutil.get_terminal_size((100, 24)).columns))
    seconds = result.seconds["total"] * 1000
    click.echo(f"score {result.score:.3f}, {result.calls} segment calls, {seconds:.1f} ms\n")


def _draw_svg(captioner: Captioner, result: Caption, picture: Any, path: Path) -> None:
    from mue_edge.files import atomic_write
    from mue_edge.sessions import draw

    drawing = draw.drawing_of(result, captioner.layout, captioner.tokenizer)
    atomic_write(path, draw.as_svg(drawing, picture))
    click.echo(f"wrote {path}", err=True)
