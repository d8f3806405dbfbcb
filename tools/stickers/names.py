"""From a set's icon name to its emoji, and from an emoji to what people call it.

An emoji is written as its code points in lower-case hexadecimal joined by dashes, without
U+FE0F: `1f469-1f3fd-200d-1f680`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")


@dataclass(frozen=True)
class Words:
    """What one emoji is called: the CLDR short name, further references, and keywords."""

    caption: str
    references: tuple[str, ...]
    keywords: tuple[str, ...]


def code_points(text: str) -> str:
    """Dash-joined hexadecimal code points of a string, U+FE0F dropped."""
    return "-".join(f"{ord(c):04x}" for c in text if ord(c) != 0xFE0F)


def normal(code: str) -> str:
    """A package's spelling of an emoji (any case, with or without fe0f) in ours."""
    return "-".join(f"{int(part, 16):04x}" for part in code.lower().split("-") if part != "fe0f")


def base_of(emoji: str) -> str:
    """The emoji without skin tones: pictures of one base and one family are near copies."""
    return "-".join(part for part in emoji.split("-") if part not in TONES)


def slug(name: str) -> str:
    """How icon sets spell a CLDR name: NFKD, lower case, what is not alphanumeric becomes a dash."""
    plain = unicodedata.normalize("NFKD", name.lower().replace("’", "").replace("'", ""))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def caption_of(name: str) -> str:
    """Training form of a name: straight quotes, lower case, single spaces."""
    straight = name.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'})
    return " ".join(straight.lower().split())


def read_words(modules: Path) -> dict[str, Words]:
    """Emoji → words, for every emoji that emojibase lists and CLDR names."""
    known: set[str] = set()
    for entry in _json(modules / "emojibase-data" / "en" / "data.json"):
        known.update(normal(e["hexcode"]) for e in [entry, *entry.get("skins", [])])
    words: dict[str, Words] = {}
    for package, key in (
        ("cldr-annotations-full", "annotations"),
        ("cldr-annotations-derived-full", "annotationsDerived"),
    ):
        table = _json(modules / package / key / "en" / "annotations.json")[key]["annotations"]
        for text, entry in table.items():
            emoji = code_points(text)
            if emoji not in known or "tts" not in entry:
                continue
            caption = caption_of(entry["tts"][0])
            second = caption_of(unicodedata.name(chr(int(emoji, 16)), "")) if "-" not in emoji else ""
            references = (caption, second) if second and second != caption else (caption,)
            words[emoji] = Words(caption, references, tuple(caption_of(k) for k in entry.get("default", [])))
    return words


def name_tables(modules: Path, words: dict[str, Words]) -> dict[str, dict[str, str]]:
    """For each iconify set: icon or alias name → emoji.

    A set's own `chars.json` wins, then CLDR slugs, then what the other sets call an emoji.
    """
    by_slug: dict[str, str] = {}
    for emoji in sorted(words):
        by_slug.setdefault(slug(words[emoji].caption), emoji)
        if emoji.startswith("1f1") and words[emoji].caption.startswith("flag: "):
            country = slug(words[emoji].caption.removeprefix("flag: "))
            for spelling in (f"flag-for-{country}", f"flag-{country}"):
                by_slug.setdefault(spelling, emoji)
    own: dict[str, dict[str, str]] = {}
    for folder in sorted((modules / "@iconify-json").iterdir()):
        chars = _json(folder / "chars.json") if (folder / "chars.json").is_file() else {}
        own[folder.name] = {name: normal(code) for code, name in sorted(chars.items()) if normal(code) in words}
    shared: dict[str, str] = dict(by_slug)
    for name in ("fluent-emoji-flat", "twemoji", "noto", "openmoji"):
        for icon, emoji in own.get(name, {}).items():
            shared.setdefault(icon, emoji)
    own["fluent-emoji"] = own.get("fluent-emoji-flat", {})
    tables = {name: shared | table for name, table in own.items()}
    tables["fxemoji"] = _squashed(words)
    tables["streamline-emojis"] = _suffixed(shared)
    return tables


def _squashed(words: dict[str, Words]) -> dict[str, str]:
    """fxemoji writes Unicode or CLDR names without any separator."""
    table: dict[str, str] = {}
    for emoji in sorted(words):
        for reference in reversed(words[emoji].references):
            table.setdefault(re.sub(r"[^a-z0-9]", "", reference), emoji)
    return table


def _suffixed(shared: dict[str, str]) -> dict[str, str]:
    """streamline numbers the pictures of one name: `detective-2` is a second detective."""
    return {f"{name}{end}": emoji for name, emoji in shared.items() for end in ("", "-1", "-2", "-3")}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
