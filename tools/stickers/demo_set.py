"""Chooses and draws the demo pictures: `python -m tools.stickers.demo_set`.

They come from `test_render`: the captions were seen in training, this artist's drawings of them
never. The choice follows a hash and quotas by subject, not what a model says about them. The quotas
prefer what a reader can judge at a glance (animals, food, faces, objects) to skin tones and flags, so
the demo is easier than `test_render` as a whole.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import click
from PIL import Image

from mue_edge.apps.stickers.dataset import Record, default_cache, read
from mue_edge.files import atomic_folder
from tools.stickers.names import normal, slug
from tools.stickers.recipe import sources
from tools.stickers.render import draw, on_white
from tools.stickers.splits import toned, unit
from tools.stickers.tables import ROOT

SIDE = 192
# Groups of emojibase: smileys, people, animals, food, travel, activities, objects, symbols, flags.
QUOTAS = {0: 18, 1: 10, 3: 18, 4: 16, 5: 12, 6: 8, 7: 14, 8: 1, 9: 3}
TONED = 3  # of all: neighbouring skin tones are hard to tell apart, for a reader too
_UNFIT = re.compile(
    r"middle finger|poo\b|cigarette|smoking|pistol|bomb|knife|dagger|coffin|skull|syringe|drop of blood|"
    r"bikini|briefs|eggplant|peach|kiss|breast|swearing|vomit|beer|wine|cocktail|drunk|18|pregnant|button"
)


def choose(records: list[Record], groups: dict[str, int]) -> list[Record]:
    """At most one picture of an emoji, whatever its skin tone, by quota; the order of a hash of their ids."""
    left, bases, chosen = Counter(QUOTAS), set[str](), list[Record]()
    tones = TONED
    for record in sorted(records, key=lambda r: unit("demo", r.id)):
        group = groups.get(record.emoji, groups.get(record.base, -1))
        if record.split != "test_render" or record.base in bases or left[group] < 1:
            continue
        if _UNFIT.search(record.caption) or (toned(record.emoji) and not tones):
            continue
        tones -= toned(record.emoji)
        left[group] -= 1
        bases.add(record.base)
        chosen.append(record)
    return chosen


def read_groups(modules: Path) -> dict[str, int]:
    """Emoji → its group in emojibase."""
    entries = json.loads((modules / "emojibase-data" / "en" / "data.json").read_text(encoding="utf-8"))
    return {normal(e["hexcode"]): e["group"] for e in entries if "group" in e}


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "apps/stickers/demo")
def main(cache: Path | None, out: Path) -> None:
    """Draw the demo pictures and write their captions."""
    folder = cache or default_cache()
    modules = folder / "npm" / "node_modules"
    chosen = choose(list(read(folder).records), read_groups(modules))
    wanted = {(record.set, record.icon): record for record in chosen}
    captions: dict[str, str] = {}
    with atomic_folder(out, "captions.json") as work:
        for pictures, source in sources(modules):
            record = wanted.get((pictures.name, source.icon))
            if record is None or record.emoji != source.emoji:
                continue
            name = f"{record.set}-{slug(record.caption)}.webp"
            Image.fromarray(on_white(draw(source, SIDE))).save(work / name, "WEBP", quality=90, method=6)
            captions[name] = record.caption
        text = json.dumps(dict(sorted(captions.items())), ensure_ascii=False, indent=1)
        (work / "captions.json").write_text(text + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in out.iterdir())
    click.echo(f"{len(captions)} pictures, {size / 1e3:.0f} kB in {out}")


if __name__ == "__main__":
    main()
