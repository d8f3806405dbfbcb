"""The pairs that come with the package, to tune and to certify the bundled model's policies on.

`pairs/<split>.jsonl` has a statement a line: picture (of the stickers' shipped ones), hypothesis, label and
cluster, classes balanced. `python -m mue_edge.apps.entailment.shipped` writes them.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from mue_edge.apps.stickers.shipped import FOLDER as PICTURES
from mue_edge.files import atomic_write

FOLDER = Path(__file__).resolve().parent / "pairs"
SPLITS = ("val_render", "cal_render")


def table(split: str) -> Path:
    """A shipped split's table."""
    return FOLDER / f"{split}.jsonl"


def pictures(split: str) -> Path:
    """The folder that its pictures are in."""
    return PICTURES / split


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
def main(cache: Path | None) -> None:
    """Write the pairs that are shipped."""
    from mue_edge.apps.entailment.pairs import balanced, names_of
    from mue_edge.apps.stickers.dataset import read

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
