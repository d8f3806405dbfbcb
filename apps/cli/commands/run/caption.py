"""`mue-edge caption`: caption pictures."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mue_edge import targets
from mue_edge.apps.cli import default_bundle as bundles
from mue_edge.apps.cli.completion import pictures
from mue_edge.apps.cli.options import NewFile, common, option, shared, takes
from mue_edge.apps.cli.terminal import say
from mue_edge.errors import InputFileError, UsageError, command_line
from mue_edge.files import atomic_write
from mue_edge.inputs import gathering
from mue_edge.loop.lossless import Payoff
from mue_edge.loop.policy import Policy
from mue_edge.sessions.captioner import Caption, Captioner

if TYPE_CHECKING:
    from mue_edge.inputs.image import LoadedPicture, NamedPicture


@dataclass(frozen=True)
class CaptionOptions:
    given: tuple[str, ...] = shared(
        click.argument("given", shell_complete=pictures, nargs=-1, required=True, metavar="[BUNDLE] IMAGES...")
    )
    policy: str | None = shared(common.policy_option())
    as_json: bool = shared(common.json_option("One JSON object a picture and line."))
    beam: int | None = option("Beams, up to what the bundle was exported for.", type=common.POSITIVE)
    deadline: float | None = shared(common.deadline_option)
    lossless: bool = option("Full depth's caption: exits only draft it (greedy).")
    profile: str | None = option("With --lossless: draft only while that pays by these times.", metavar="FILE")
    trace: bool = option("Read every exit score; draw the exits by layer and token.")
    svg: Path | None = option("With one picture: draw its exits to this file.", type=NewFile())
    threads: int | None = shared(common.threads_option())


@click.command("caption")
@takes(CaptionOptions)
@common.max_pixels_option
def command(o: CaptionOptions) -> int:
    """Caption pictures with a BUNDLE: a folder, or a bundled model's name, such as stickers.

    Without one the bundled model captions; its bundle is made once and kept in your cache.

    IMAGES are files, folders, http(s) addresses, or "-" for standard input: a picture, or a list of files.
    A picture that cannot be used is named on standard error and the others are still captioned; the exit
    code is then 4.
    """
    bundle, images = _split(o.given)
    with targets.open(bundle, threads=o.threads) as captioner:
        policy = captioner.policy(o.policy)
        captioner.settings(o.beam)  # a beam that cannot be run stops here
        if o.profile and not o.lossless:
            raise UsageError("--profile says when --lossless pays; give both")
        how: dict[str, Any] = {"policy": policy, "beam": o.beam, "trace": o.trace or o.svg is not None}
        how["lossless"] = _payoff(captioner, o.profile) if o.profile else o.lossless
        how["deadline"] = o.deadline
        files = gathering.gather(images)
        if o.svg and len(files) != 1:
            raise UsageError(f"--svg draws one picture; {len(files)} were given")
        if o.deadline is not None:
            _prepare(captioner, policy)
        usable = [_caption(o, captioner, file, len(files) == 1, how) for file in files]
    return 0 if all(usable) else 4


def _split(given: Sequence[str]) -> tuple[Path, Sequence[str]]:
    """The bundle's folder, and the pictures: the first of `given` is a bundle (or a model, which is an error)
    or a bundled model's name if it can be, else a picture for the bundled model.

    Raises UsageError without pictures, InputFileError for a first one that is nothing.
    """
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
        raise bundles.unknown_bundle(
            first, "a picture, a folder of pictures, an http(s) address, or - for what is on standard input"
        )
    late = [name for name in others if bundles.is_bundle(name)]
    if late:
        raise UsageError(f"a bundle goes before its pictures: {command_line('caption', late[0], first)}")
    return bundles.bundle_folder(None), given


def _payoff(captioner: Captioner, file: str) -> Payoff:
    from mue_edge.measuring import profile

    times = profile.read(file)
    times.check_fits(captioner.bundle)
    return Payoff(captioner.layout, times.call_seconds)


def _prepare(captioner: Captioner, policy: Policy) -> None:
    """Load the segments before the first clock starts, and say what the front has to offer."""
    captioner.warm_up()
    if not captioner.faster(policy):
        say(
            "note: this bundle's front has no policy that is faster than "
            f"{policy.name or policy.rule}, so a late caption can only end early; "
            f"mue-edge calibrate makes a front"
        )


def _caption(
    o: CaptionOptions, captioner: Captioner, file: Path | NamedPicture, alone: bool, how: dict[str, Any]
) -> bool:
    """Print a picture's caption; whether the picture could be used. It is freed here, so that no two are in
    memory. alone: it is the only one; how: as `Captioner.stream` takes it."""
    try:
        picture = captioner.load(file)
    except InputFileError as problem:
        say(f"error: {problem}")
        return False
    live = alone and not o.as_json and sys.stdout.isatty()
    if not alone and not o.as_json:
        click.echo(f"{file}: ", nl=False)
    result = _grown(captioner, picture, **how) if live else captioner.caption(picture, **how)
    if o.as_json:
        click.echo(json.dumps(_record(file, result, o.trace)))
        return True
    if not live:
        click.echo(result.text)
    if o.trace or o.svg or result.deadline:
        _draw(o, captioner, result, picture, file)
    return True


def _grown(captioner: Captioner, picture: LoadedPicture, **how: Any) -> Caption:
    """The caption, whose text is written as it grows (a beam's best row may change its mind)."""
    written = ""

    def write(text: str) -> None:
        nonlocal written
        new = text[len(written) :] if text.startswith(written) else f"\r\x1b[K{text}"
        click.echo(new, nl=False)
        written = text

    steps = captioner.stream(picture, **how)
    while True:
        try:
            write(next(steps))
        except StopIteration as end:
            result: Caption = end.value
            write(result.text)
            click.echo()
            return result


def _draw(
    o: CaptionOptions, captioner: Captioner, result: Caption, picture: LoadedPicture, file: Path | NamedPicture
) -> None:
    """What the clock changed, on standard error, or the exits, as they are asked for."""
    from mue_edge.sessions import draw

    if not o.trace and result.deadline and (result.deadline.cut_short or result.deadline.hurried):
        say(f"note: {file}: {draw.deadline_summary(result.deadline)}")
    drawing = draw.drawing_of(result, captioner.layout, captioner.tokenizer)
    if o.trace:
        click.echo(draw.as_text(drawing, shutil.get_terminal_size((100, 24)).columns))
        seconds = result.seconds["total"] * 1000
        click.echo(f"score {result.score:.3f}, {result.calls} segment calls, {seconds:.1f} ms\n")
    if o.svg:
        atomic_write(o.svg, draw.as_svg(drawing, picture.rgb))
        say(f"wrote {o.svg}")


def _record(file: Path | NamedPicture, result: Caption, trace: bool) -> dict[str, Any]:
    record = {"file": str(file), "text": result.text, "tokens": list(result.tokens), "score": result.score}
    record |= {"exits": dict(result.exits), "decoder_layers": result.decoder_layers}
    record |= {"seconds": dict(result.seconds), "calls": result.calls}
    if result.deadline:
        record["deadline"] = result.deadline.to_json()
    if trace:
        record["decisions"] = [decision.to_json() for decision in result.decisions]
    return record
