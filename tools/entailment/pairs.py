"""Pictures with statements about them: hypotheses drawn for the stickers by `rules`, classes balanced."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mue_edge.apps.stickers.dataset import Stickers, default_cache
from tools.entailment.rules import LABELS, Names
from tools.stickers.names import normal
from tools.stickers.splits import unit

# Of plain people it cannot be said that one is not the other: a boy is a child.
_NO_SIBLINGS = ("person",)


@dataclass(frozen=True)
class Pair:
    """Row of a picture in the data set, what is said of it, and whether that is so."""

    row: int
    hypothesis: str
    label: str


def names_of(data: Stickers, cache: Path | None = None) -> Names:
    """All captions of the stickers, by the groups that emojibase puts their emoji into."""
    kinds = _kinds((cache or default_cache()) / "npm" / "node_modules" / "emojibase-data")
    return Names({record.caption: kinds.get(record.emoji, "") for record in data.records})


def _kinds(folder: Path) -> dict[str, str]:
    """Emoji → name of its subgroup, "" where its members do not exclude one another."""
    names: Mapping[str, str] = _json(folder / "meta" / "groups.json")["subgroups"]
    found = {}
    for entry in _json(folder / "en" / "data.json"):
        name = names.get(str(entry.get("subgroup")), "")
        for one in (entry, *entry.get("skins", [])):
            found[normal(one["hexcode"])] = "" if name in _NO_SIBLINGS else name
    return found


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def drawn(rules: Mapping[str, Sequence[str]], place: float) -> str:
    """One of the hypotheses: every rule is as likely, and every name within it. `place` in [0, 1)."""
    names = list(rules.values())
    which, rest = divmod(place * len(names), 1)
    return names[int(which)][int(rest * len(names[int(which)]))]


def balanced(data: Stickers, split: str, names: Names) -> list[Pair]:
    """A split's pairs, as many of each label: at most one of a label for a picture, in the pictures' order.

    What is drawn follows from the records' ids alone.
    """
    by_label: dict[str, list[tuple[float, Pair]]] = {label: [] for label in LABELS}
    for row in data.rows(split).tolist():
        record = data.records[row]
        for label in LABELS:
            rules = names.hypotheses(record.caption, label)
            if rules:
                pair = Pair(row, drawn(rules, unit("hypothesis", record.id, label)), label)
                by_label[label].append((unit("kept", record.id, label), pair))
    least = min(map(len, by_label.values()))
    kept = [pair for found in by_label.values() for _, pair in sorted(found, key=lambda f: f[0])[:least]]
    return sorted(kept, key=lambda pair: (pair.row, LABELS.index(pair.label)))
