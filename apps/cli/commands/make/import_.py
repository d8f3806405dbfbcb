"""`mue-edge import`: turn a checkpoint into a model folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mue_edge import models, targets
from mue_edge.apps.cli.catalogue import usage
from mue_edge.apps.cli.options import Existing, option, shared, takes
from mue_edge.errors import UsageError, command_line, missing_extra

if TYPE_CHECKING:
    from mue_edge.models.importing import Imported

FAMILIES = models.families()
HELP = f"""Turn CHECKPOINT into a model folder.

    CHECKPOINT is {"; or ".join(family.checkpoints for family in FAMILIES)}.
    Every tensor is checked; nothing is filled in. Where it holds no vocabulary, --tokenizer names one.
    """
SIZES = ", ".join(size for family in FAMILIES for size in family.sizes)


@dataclass(frozen=True)
class ImportOptions:
    checkpoint: Path | None = shared(click.argument("checkpoint", required=False, type=Existing()))
    out: Path = option("The model folder to write.", required=True)
    config: Path | None = option("Settings as JSON; they win over the file's.", type=Existing())
    tokenizer: Path | None = option("Folder with the vocabulary's files.", type=Existing())
    task: str | None = option("Default: the checkpoint's, or caption.", type=click.Choice(["caption", "entail"]))
    prompt: str | None = option("Text for the encoder; for entailment with {hypothesis} (and {caption}).")
    image_size: int | None = option("Side of the pictures in pixels.  [default: the checkpoint's]")
    allow_pickle: bool = option("Read .pt and .bin files; nothing in them is run.")
    ema: bool = option("Import the averaged weights that a fairseq file may also hold.")
    decomposed: bool | None = option(
        "Decomposed or joint encoder.  [default: the checkpoint's]", "--mue/--no-mue", default=None
    )
    size: str | None = option(f"No checkpoint: untrained weights. Sizes: {SIZES}.", "--random", metavar="SIZE")
    seed: int = option("Of the untrained weights.", default=0)
    family: str | None = option("Of models.  [default: the one that knows CHECKPOINT or SIZE]", metavar="NAME")


@click.command("import", help=HELP)
@takes(ImportOptions)
def command(o: ImportOptions) -> None:
    if (o.checkpoint is None) == (o.size is None):
        raise UsageError("give either a CHECKPOINT or --random SIZE; see: mue-edge import --help")
    try:
        from mue_edge.models import importing
    except ImportError as problem:
        raise missing_extra("torch", "torch") from problem
    request = {name: value for name, value in vars(o).items() if name != "out"}
    imported = importing.write(importing.ImportRequest(**request), o.out)
    for note in imported.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(
        f"{o.out}: {imported.what}, {imported.parameters / 1e6:.1f} million weights, "
        f"pictures of {imported.description.picture} pixels, {imported.description.vocab_size} tokens"
    )
    click.echo("\n".join(_next(o, imported)))


def _next(o: ImportOptions, imported: Imported) -> Iterator[str]:
    """The commands that lead on from this model."""
    if not imported.task:
        yield "next: nothing can be asked without a vocabulary; import it again with one:"
        yield f"  {command_line('import', *_source(o), '--out', o.out, '--tokenizer')} DIR"
        return
    bundle = f"{o.out}-host"
    what = {"caption": "captions", "entail": "statements about pictures"}[imported.task]
    others = ", ".join(name for name in targets.names() if name != "host")
    yield f"next, for {what} (pictures of {imported.description.picture} pixels):"
    yield "  " + command_line("export", o.out, "--target", "host", "--out", bundle)
    yield f"  {usage(imported.task, bundle)}" + (' --caption "CAPTION"' if imported.captions else "")
    yield f"for a device: --target {others}"


def _source(o: ImportOptions) -> list[str]:
    """What was imported, and how, as arguments."""
    words = ["--random", o.size, "--seed", str(o.seed)] if o.size else [str(o.checkpoint)]
    named = {"--config": o.config, "--task": o.task, "--image-size": o.image_size, "--family": o.family}
    words += [word for name, value in named.items() if value is not None for word in (name, str(value))]
    flags = {"--allow-pickle": o.allow_pickle, "--ema": o.ema}
    flags |= {"--mue": o.decomposed is True, "--no-mue": o.decomposed is False}
    return words + [name for name, given in flags.items() if given]
