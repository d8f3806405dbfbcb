"""No picture that is tested on has a near copy in training."""

from __future__ import annotations

import pytest

from tools.stickers.names import TONES, base_of
from tools.stickers.splits import HELD_OUT, Item, assign, leaks, toned, unit, window

FAMILIES = ("a", "b", "c")
VENDOR = frozenset({"v"})


def made(emoji: int = 600) -> list[Item]:
    """Emoji drawn by three families and a vendor; every third comes in five skin tones as well."""
    items = []
    for number in range(emoji):
        code = f"{0x2000 + number:04x}"
        forms = [code, *(f"{code}-{tone}" for tone in TONES)] if number % 3 == 0 else [code]
        items += [Item(form, family, f"caption {form}") for family in (*FAMILIES, "v") for form in forms]
    return items


def test_held_out_families_are_never_trained_on_in_any_tone() -> None:
    items = made()
    splits = assign(items, VENDOR)
    assert leaks(items, splits) == set()
    trained = {(base_of(i.emoji), i.family) for i, s in zip(items, splits, strict=True) if s == "train"}
    for item, split in zip(items, splits, strict=True):
        if split in HELD_OUT:
            assert (base_of(item.emoji), item.family) not in trained


def test_every_split_gets_its_share_and_every_held_out_caption_is_seen() -> None:
    items = made()
    splits = assign(items, VENDOR)
    captions = {i.caption for i, s in zip(items, splits, strict=True) if s == "train"}
    for split in HELD_OUT:
        found = [i for i, s in zip(items, splits, strict=True) if s == split]
        assert found
        assert all(item.caption in captions for item in found)
    assert 0.5 < splits.count("train") / sum(i.family != "v" for i in items) < 0.95


def test_compositional_captions_are_unseen_but_their_parts_are_not() -> None:
    items = made()
    splits = assign(items, VENDOR)
    found = [i for i, s in zip(items, splits, strict=True) if s == "test_comp"]
    captions = {i.caption for i, s in zip(items, splits, strict=True) if s == "train"}
    bases = {base_of(i.emoji) for i, s in zip(items, splits, strict=True) if s == "train"}
    assert found
    for item in found:
        assert toned(item.emoji)
        assert item.caption not in captions
        assert base_of(item.emoji) in bases


def test_vendor_pictures_are_only_tested_on() -> None:
    items = made(60)
    for item, split in zip(items, assign(items, VENDOR), strict=True):
        assert (item.family == "v") == (split == "test_vendor")


def test_order_and_company_do_not_matter() -> None:
    items = made(90)
    forward = dict(zip(items, assign(items, VENDOR), strict=True))
    backward = dict(zip(items[::-1], assign(items[::-1], VENDOR), strict=True))
    assert forward == backward


def test_splits_are_the_same_on_every_machine() -> None:
    assert unit("window", "1f947") == pytest.approx(0.3204426605436533, rel=1e-12)
    assert window("1f947") == "cal_render"


def test_leaks_are_found() -> None:
    tone, other = TONES[0], TONES[4]
    items = [Item(f"1f44b-{tone}", "a", "x"), Item(f"1f44b-{other}", "a", "y"), Item("1f600", "b", "z")]
    assert leaks(items, ["train", "test_render", "train"]) == {("test_render", "1f44b", "a")}
    items = [Item("1f44b", "a", "x"), Item(f"1f44b-{other}", "a", "x")]
    assert leaks(items, ["train", "test_comp"]) == {("test_comp", f"1f44b-{other}", "x")}
