"""`mue-edge entail`: say whether a picture shows what a statement says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mue_edge import targets
from mue_edge.apps.cli.default_bundle import bundle_folder
from mue_edge.apps.cli.options import common
from mue_edge.apps.cli.terminal import say
from mue_edge.inputs.gathering import single_picture
from mue_edge.inputs.statements import WANTS_CAPTION, unknown_words_note
from mue_edge.loop.protocol import DECODER
from mue_edge.sessions.entailer import Entailment


@click.command("entail")
@common.bundle_argument
@click.argument("image")
@click.argument("statements", nargs=-1, required=True)
@click.option("--caption", metavar="TEXT", help="Of IMAGE; for models that were trained with captions.")
@common.policy_option()
@common.json_option("One JSON object a statement and line.")
@click.option("--trace", is_flag=True, help="With --json: every exit test, with its score.")
@common.max_pixels_option
@common.threads_option()
def command(
    bundle: str,
    image: str,
    statements: tuple[str, ...],
    caption: str | None,
    policy: str | None,
    as_json: bool,
    trace: bool,
    threads: int | None,
) -> None:
    """Say whether IMAGE shows what each of STATEMENTS says: yes, no, or maybe (the picture does not tell).

    IMAGE is a file, an http(s) address, or "-" for standard input.

    BUNDLE is a folder made by `mue-edge export` of a model for entailment, or the bundled one's name,
    stickers-entail, whose bundle is made once and kept in your cache.
    """
    with targets.open_entailer(bundle_folder(bundle, "entail"), threads=threads) as entailer:
        chosen, picture = entailer.policy(policy), entailer.load(single_picture(image))
        if entailer.bundle.manifest.caption_prompt and caption is None:
            say(f"note: {WANTS_CAPTION}; give one with --caption TEXT")
        entailer.warm_up()  # or the first answer's time would be that of loading segments
        for statement in statements:
            noted = unknown_words_note(entailer.unknown(statement, caption))
            if noted:
                say(f"note: {noted}")
            result = entailer.entail(picture, statement, caption=caption, policy=chosen, trace=trace)
            if as_json:
                record = _record(image, statement, result, trace)
                click.echo(json.dumps(record | ({} if caption is None else {"caption": caption})))
            else:
                click.echo(_text(statement, result))


def _text(statement: str, result: Entailment) -> str:
    shares = ", ".join(f"{word} {share:.3f}" for word, share in result.probabilities.items())
    depths = {**result.exits, DECODER: f"{result.decoder_layers:.2g}"}
    layers = ", ".join(f"{stack} {depth}" for stack, depth in depths.items())
    milliseconds = 1000 * result.seconds["total"]
    return f"{result.answer:5}  {statement}\n       {shares}; layers: {layers}; {milliseconds:.1f} ms"


def _record(image: str, statement: str, result: Entailment, trace: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"file": str(Path(image)), "statement": statement, "answer": result.answer}
    record |= {"probabilities": dict(result.probabilities), "exits": dict(result.exits)}
    record |= {"seconds": dict(result.seconds), "calls": result.calls, "unknown": list(result.unknown)}
    return record | ({"decisions": [decision.to_json() for decision in result.decisions]} if trace else {})
