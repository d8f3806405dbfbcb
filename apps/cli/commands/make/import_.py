"""`mue-edge import`: turn a checkpoint into a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mue_edge.apps.cli.options.types import Existing
from mue_edge.errors import UsageError, command_line, missing_extra

if TYPE_CHECKING:
    from mue_edge.models.importing import Imported


def _help() -> str:
    from mue_edge import models

    return f"""Turn CHECKPOINT into a model folder.

    CHECKPOINT is {"; or ".join(family.checkpoints for family in models.families())}.
    Every tensor is checked; nothing is filled in. Where it holds no vocabulary, --tokenizer names one.
    """


def _sizes() -> str:
    from mue_edge import models

    return ", ".join(size for family in models.families() for size in family.sizes)


@click.command("import", help=_help())
@click.argument("checkpoint", required=False, type=Existing())
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The model folder to write.")
@click.option("--config", type=Existing(), help="Settings as JSON; they win over the file's.")
@click.option("--tokenizer", type=Existing(), help="Folder with the vocabulary's files.")
@click.option(
    "--task", type=click.Choice(["caption", "entail"]), help="Default: the checkpoint's, or caption."
)
@click.option("--prompt", help="Text for the encoder; for entailment with {hypothesis} (and {caption}).")
@click.option("--image-size", type=int, help="Side of the pictures in pixels.  [default: the checkpoint's]")
@click.option("--allow-pickle", is_flag=True, help="Read .pt and .bin files; nothing in them is run.")
@click.option("--ema", is_flag=True, help="Import the averaged weights that a fairseq file may also hold.")
@click.option(
    "--mue/--no-mue", default=None, help="Decomposed or joint encoder.  [default: the checkpoint's]"
)
@click.option(
    "--random", "size", metavar="SIZE", help=f"No checkpoint: untrained weights. Sizes: {_sizes()}."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the untrained weights.")
@click.option("--family", metavar="NAME", help="Of models.  [default: the one that knows CHECKPOINT or SIZE]")
def command(
    checkpoint: Path | None, out: Path, config: Path | None, tokenizer: Path | None,
    task: str | None, prompt: str | None, image_size: int | None, allow_pickle: bool,
    ema: bool, mue: bool | None, size: str | None, seed: int, family: str | None,
) -> None:  # fmt: skip
    if (checkpoint is None) == (size is None):
        raise UsageError("give either a CHECKPOINT or --random SIZE; see: mue-edge import --help")
    try:
        from mue_edge.models import importing
    except ImportError as problem:
        raise missing_extra("torch", "torch") from problem
    request = importing.ImportRequest(
        checkpoint, config, tokenizer, task, prompt, image_size, allow_pickle, mue, size, seed, ema, family
    )
    imported = importing.write(request, out)
    for note in imported.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(
        f"{out}: {imported.what}, {imported.parameters / 1e6:.1f} million weights, "
        f"pictures of {imported.description.picture} pixels, {imported.description.vocab_size} tokens"
    )
    source = ["--random", size, "--seed", str(seed)] if size else [str(checkpoint)]
    given = {"--config": config, "--task": task, "--image-size": image_size, "--family": family}
    source += [word for name, value in given.items() if value is not None for word in (name, str(value))]
    flags = {"--allow-pickle": allow_pickle, "--ema": ema, "--mue": mue is True, "--no-mue": mue is False}
    source += [name for name, set_ in flags.items() if set_]
    for line in _next(imported, source, out):
        click.echo(line)


def _next(imported: Imported, source: list[str], out: Path) -> list[str]:
    """The commands that lead on from this model; `source`: what it was imported from, as arguments."""
    if not imported.task:
        again = command_line("import", *source, "--out", out, "--tokenizer")
        return [
            "next: nothing can be asked without a vocabulary; import it again with one:",
            f"  {again} DIR",
        ]
    from mue_edge import targets

    bundle = f"{out}-host"
    what = {"caption": "captions", "entail": "statements about pictures"}[imported.task]
    ask = command_line(imported.task, bundle, "PICTURE")
    ask += ' "STATEMENT"' if imported.task == "entail" else ""
    ask += ' --caption "CAPTION"' if imported.captions else ""
    others = ", ".join(name for name in targets.names() if name != "host")
    return [
        f"next, for {what} (pictures of {imported.description.picture} pixels):",
        "  " + command_line("export", out, "--target", "host", "--out", bundle),
        f"  {ask}",
        f"for a device: --target {others}",
    ]
