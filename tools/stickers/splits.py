"""Leak-free splits of the sticker set, by stable hashes; pure functions.

Pictures of one (tone-stripped emoji, design family) are near copies, so they always go together:

- `val_render`, `cal_render`, `test_render`: the caption is seen in training, this family's
  drawing of it never is, in no skin tone. An emoji is drawn into one of the three windows by
  its hash, and gives up one family, chosen by hash.
- `test_comp`: the caption is never seen: a held-out combination of a person and a skin tone
  (the person in other tones, and the tone on other persons, are seen).
- `test_vendor`: a whole artist that is never seen.
- `unused`: a held-out picture whose caption no other family shows in training.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tools.stickers.names import TONES, base_of

WINDOWS: tuple[tuple[str, float], ...] = (("val_render", 0.07), ("test_render", 0.13), ("cal_render", 0.24))
COMP_SHARE = 0.14
HELD_OUT = tuple(name for name, _ in WINDOWS)


@dataclass(frozen=True)
class Item:
    """What decides a picture's split."""

    emoji: str
    family: str
    caption: str


def unit(*parts: str) -> float:
    """A number in [0, 1) that depends on nothing but the words."""
    digest = hashlib.sha256("|".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def window(base: str) -> str | None:
    """The held-out split that the emoji belongs to, if any."""
    place = unit("window", base)
    for name, share in WINDOWS:
        if place < share:
            return name
        place -= share
    return None


def toned(emoji: str) -> bool:
    return any(part in TONES for part in emoji.split("-"))


def assign(items: Iterable[Item], vendor_families: frozenset[str]) -> list[str]:
    """The split of each item, in order."""
    rows = list(items)
    families: dict[str, set[str]] = defaultdict(set)
    for item in rows:
        if item.family not in vendor_families:
            families[base_of(item.emoji)].add(item.family)
    splits = [_first(item, families, vendor_families) for item in rows]
    seen = {item.caption for item, split in zip(rows, splits, strict=True) if split == "train"}
    unseen = [split in HELD_OUT and item.caption not in seen for item, split in zip(rows, splits, strict=True)]
    return ["unused" if drop else split for split, drop in zip(splits, unseen, strict=True)]


def _first(item: Item, families: dict[str, set[str]], vendor_families: frozenset[str]) -> str:
    if item.family in vendor_families:
        return "test_vendor"
    base = base_of(item.emoji)
    held_out = window(base)
    if held_out is None:
        return "test_comp" if toned(item.emoji) and unit("comp", item.emoji) < COMP_SHARE else "train"
    if len(families[base]) < 2:
        return "train"
    given_up = min(families[base], key=lambda family: unit("family", base, family))
    return held_out if item.family == given_up else "train"


def leaks(items: Iterable[Item], splits: Iterable[str]) -> set[tuple[str, str, str]]:
    """(split, tone-stripped emoji, family) of held-out pictures that also stand in train; must be empty.

    For `test_comp` the third word is the caption, which must not stand in train.
    """
    rows = list(zip(items, splits, strict=True))
    pairs = {(base_of(item.emoji), item.family) for item, split in rows if split == "train"}
    captions = {item.caption for item, split in rows if split == "train"}
    found = set()
    for item, split in rows:
        key = (base_of(item.emoji), item.family)
        if split in (*HELD_OUT, "test_vendor") and key in pairs:
            found.add((split, *key))
        if split == "test_comp" and item.caption in captions:
            found.add((split, item.emoji, item.caption))
    return found
