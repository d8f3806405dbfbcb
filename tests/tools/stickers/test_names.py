"""Names of icons and of emoji."""

from __future__ import annotations

import json
from pathlib import Path

from tools.stickers.names import base_of, caption_of, code_points, name_tables, normal, read_words, slug


def test_spellings_of_an_emoji() -> None:
    assert code_points("👩🏽‍🚀") == "1f469-1f3fd-200d-1f680"
    assert code_points("☺️") == "263a"
    assert normal("1F3F4-200D-2620-FE0F") == "1f3f4-200d-2620"
    assert normal("a9") == "00a9"
    assert base_of("1f9d1-1f3fb-200d-1f91d-200d-1f9d1-1f3ff") == "1f9d1-200d-1f91d-200d-1f9d1"


def test_slugs_and_captions() -> None:
    assert slug("flag: Côte d’Ivoire") == "flag-cote-divoire"
    assert slug("woman: dark skin tone, beard") == "woman-dark-skin-tone-beard"
    assert caption_of("Japanese “here”  button") == 'japanese "here" button'


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_icons_find_their_emoji(tmp_path: Path) -> None:
    names = {"😀": "grinning face", "👋🏽": "waving hand: medium skin tone", "→": "arrow"}
    table = {text: {"tts": [name], "default": ["word"]} for text, name in names.items()}
    _write(tmp_path / "cldr-annotations-full/annotations/en/annotations.json", {"annotations": {"annotations": table}})
    _write(
        tmp_path / "cldr-annotations-derived-full/annotationsDerived/en/annotations.json",
        {"annotationsDerived": {"annotations": {"🇰🇪": {"tts": ["flag: Kenya"]}}}},
    )
    emojibase = [
        {"hexcode": "1F600"},
        {"hexcode": "1F44B", "skins": [{"hexcode": "1F44B-1F3FD"}]},
        {"hexcode": "1F1F0-1F1EA"},
    ]
    _write(tmp_path / "emojibase-data/en/data.json", emojibase)
    for name, chars in (("twemoji", {"1f600": "grin"}), ("emojione", {}), ("fxemoji", {})):
        _write(tmp_path / "@iconify-json" / name / "chars.json", chars)
    words = read_words(tmp_path)
    assert words["1f600"].caption == "grinning face"
    assert words["1f600"].keywords == ("word",)
    assert "2192" not in words  # not an emoji
    tables = name_tables(tmp_path, words)
    assert tables["twemoji"]["grin"] == "1f600"
    assert tables["emojione"]["waving-hand-medium-skin-tone"] == "1f44b-1f3fd"
    assert tables["emojione"]["flag-for-kenya"] == "1f1f0-1f1ea"
    assert tables["fxemoji"]["grinningface"] == "1f600"
    assert tables["streamline-emojis"]["grinning-face-2"] == "1f600"
