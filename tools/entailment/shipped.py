"""Writes the pairs that come with the package: `python -m tools.entailment.shipped`.

Needs what the stickers' recipe made. `mue_edge.apps.entailment.shipped` says what they are, and finds them.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from mue_edge.apps.entailment.shipped import FOLDER, SPLITS, table
from mue_edge.apps.stickers.dataset import read
from mue_edge.files import atomic_write
from tools.entailment.pairs import balanced, names_of


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
def main(cache: Path | None) -> None:
    """Write the pairs that are shipped."""
    data = read(cache)
    names = names_of(data, cache)
    FOLDER.mkdir(exist_ok=True)
    for split in SPLITS:
        lines = []
        for pair in balanced(data, split, names):
            record = data.records[pair.row]
            line = {
                "image": f"{record.id}.webp", "hypothesis": pair.hypothesis, "label": pair.label,
                "cluster": record.emoji,
            }  # fmt: skip
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        atomic_write(table(split), "".join(lines))
        click.echo(f"{split}: {len(lines)} statements")


if __name__ == "__main__":
    main()
