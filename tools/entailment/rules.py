"""Which emoji names are true, false or undecided of a picture, by its own name alone.

yes    its name, or one that says less: "man guard: dark skin tone" → "guard"
no     a name with one exclusive attribute exchanged (gender; a skin tone at least two steps off; the colour
       of hair), or another drawing of the same kind ("cat" → "dog")
maybe  a name that says more than is drawn: "guard" → "woman guard", "guard: dark skin tone"

All are names that people gave to some emoji. Nobody looked at the pictures: where an artist draws a "guard"
as a man, the rules still say that "man guard" is undecided.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

LABELS = ("no", "yes", "maybe")
TONES = tuple(f"{tone} skin tone" for tone in ("light", "medium-light", "medium", "medium-dark", "dark"))
_STEPS = 2  # tones that are nearer than this look alike
_GENDERED = {
    "man": ("woman", "person"), "woman": ("man", "person"),
    "men": ("women", "people"), "women": ("men", "people"),
    "boy": ("girl", "child"), "girl": ("boy", "child"),
}  # fmt: skip
# No head has two of them.
_HAIR = (("red hair", "white hair"), ("red hair", "bald"), ("white hair", "bald"), ("curly hair", "bald"))


@dataclass(frozen=True)
class Name:
    """ "man: dark skin tone, red hair" as stem, tones and other attributes, each in its order."""

    stem: str
    tones: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @staticmethod
    def parse(text: str) -> Name:
        stem, _, rest = text.partition(": ")
        parts = [part for part in rest.split(", ") if part]
        tones = tuple(part for part in parts if part in TONES)
        return Name(stem, tones, tuple(part for part in parts if part not in TONES))

    @property
    def genders(self) -> tuple[str, ...]:
        """Gendered words of the stem, or of the people that the attributes name."""
        words = self.stem.split() if any(word in _GENDERED for word in self.stem.split()) else self.others
        return tuple(word for word in words if word in _GENDERED)


class Names:
    """All names, and what each says of the others. `kinds`: name → the kind of thing that it names; a kind
    of "" has no members that exclude one another."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self.texts = {Name.parse(text): text for text in sorted(kinds)}
        self._kinds = {Name.parse(text): kind for text, kind in kinds.items()}

    def hypotheses(self, text: str, label: str) -> dict[str, list[str]]:
        """Rule → names that have the label for a picture of that name; rules without any are left out."""
        name = Name.parse(text)
        rules = {"yes": self._yes, "no": self._no, "maybe": self._maybe}[label](name)
        found = {rule: sorted(self.texts[n] for n in names) for rule, names in rules.items()}
        return {rule: names for rule, names in found.items() if names}

    def far(self, text: str, place: float) -> str:
        """A name of another thing altogether: of another kind, without a word of this one, and of no plain
        person, who may be anybody. `place` in [0, 1) chooses: every stem is as likely, and each of its names.
        """
        name, stems = Name.parse(text), list(self._by_stem.values())
        kind, (which, rest) = self._kinds.get(name, ""), divmod(place * len(stems), 1)
        for others in stems[int(which) :] + stems[: int(which)]:
            other = others[int(rest * len(others))]
            elsewhere = self._kinds[other] not in ("", kind) and not _words(name) & _words(other)
            if elsewhere and (kind or not (other.genders or other.tones)):
                return self.texts[other]
        raise ValueError(f"every name is of the kind of {text!r}")

    def _yes(self, name: Name) -> dict[str, set[Name]]:
        return {"own": {name} & self.texts.keys(), "less": self._less[name] - {name}}

    def _no(self, name: Name) -> dict[str, set[Name]]:
        compatible = self._less[name] | self._more[name]
        rules = {
            "gender": self._other_gender(name),
            "tone": {Name(name.stem, tones, name.others) for tones in _other_tones(name.tones)},
            "hair": set(_other_hair(name)),
            "kind": self._siblings(name),
        }
        return {rule: (names & self.texts.keys()) - compatible for rule, names in rules.items()}

    def _maybe(self, name: Name) -> dict[str, set[Name]]:
        """Tone or gender more, or both: that somebody has no beard can be seen."""
        found: dict[str, set[Name]] = {"tone": set(), "gender": set(), "both": set()}
        for more in self._more[name]:
            gender, tone = more.genders != name.genders, more.tones != name.tones
            plain = [part for part in more.others if part not in _GENDERED]
            if plain == [part for part in name.others if part not in (*_GENDERED, "person")]:
                found["both" if gender and tone else "gender" if gender else "tone"].add(more)
        return found

    @cached_property
    def _less(self) -> dict[Name, set[Name]]:
        """Name → the names that say no more, itself among them."""
        return {name: _closure(name) & self.texts.keys() for name in self.texts}

    @cached_property
    def _more(self) -> dict[Name, set[Name]]:
        found: dict[Name, set[Name]] = defaultdict(set)
        for name, less in self._less.items():
            for one in less - {name}:
                found[one].add(name)
        return found

    def _other_gender(self, name: Name) -> set[Name]:
        """Names of the same, but for who it is: as many people, not the same."""
        mine = sorted(name.genders)
        if not mine:
            return set()
        if len(mine) == 1:
            return {_worded(name, {mine[0]: _GENDERED[mine[0]][0]})}
        rest = [part for part in name.others if part not in _GENDERED]
        return {
            other
            for other in self._by_stem[name.stem]
            if other.tones == name.tones
            and [part for part in other.others if part not in _GENDERED] == rest
            and len(other.genders) == len(mine)
            and sorted(other.genders) != mine
        }

    def _siblings(self, name: Name) -> set[Name]:
        """Others of the kind that are as specific, neither of whose words hold all of the other's."""
        return {other for other in self._by_kind[self._key(name)] if _apart(name, other)}

    @cached_property
    def _by_stem(self) -> dict[str, list[Name]]:
        found: dict[str, list[Name]] = defaultdict(list)
        for name in self.texts:
            found[name.stem].append(name)
        return found

    @cached_property
    def _by_kind(self) -> dict[tuple[str, ...], list[Name]]:
        found: dict[tuple[str, ...], list[Name]] = defaultdict(list)
        for name in self.texts:
            if self._kinds[name]:
                found[self._key(name)].append(name)
        return found

    def _key(self, name: Name) -> tuple[str, ...]:
        """What siblings share: kind, tones and genders, so that only the thing itself differs."""
        return (self._kinds.get(name, ""), *name.tones, *sorted(name.genders))


def _closure(name: Name) -> set[Name]:
    """The name and all that drop some of what it says, whether anything is called so or not."""
    found, new = {name}, [name]
    while new:
        for less in _drops(new.pop()):
            if less not in found:
                found.add(less)
                new.append(less)
    return found


def _drops(name: Name) -> Iterator[Name]:
    if name.tones:
        yield Name(name.stem, (), name.others)
    if name.others:
        people = [part for part in name.others if part not in (*_GENDERED, "person")]
        yield Name(name.stem, name.tones, tuple(people))
        for i, part in enumerate(name.others):
            if part not in (*_GENDERED, "person"):
                yield Name(name.stem, name.tones, name.others[:i] + name.others[i + 1 :])
    if name.stem.startswith("woman and man "):
        yield Name("people " + name.stem.removeprefix("woman and man "), name.tones, name.others)
    elif name.genders and name.genders[0] in name.stem.split():
        word = name.genders[0]
        yield _worded(name, {word: _GENDERED[word][1]})
        rest = name.stem.removeprefix(f"{word} ")
        if rest != name.stem:
            yield Name(rest, name.tones, name.others)


def _worded(name: Name, words: Mapping[str, str]) -> Name:
    """With words of the stem and single-word attributes exchanged."""
    stem = " ".join(words.get(word, word) for word in name.stem.split())
    return Name(stem, name.tones, tuple(words.get(part, part) for part in name.others))


def _other_tones(tones: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """One tone exchanged for one that is some steps off."""
    for i, tone in enumerate(tones):
        for other in TONES:
            if abs(TONES.index(other) - TONES.index(tone)) >= _STEPS:
                yield (*tones[:i], other, *tones[i + 1 :])


def _other_hair(name: Name) -> Iterator[Name]:
    for pair in _HAIR:
        for mine, other in (pair, pair[::-1]):
            if mine in name.others:
                yield Name(name.stem, name.tones, tuple(other if p == mine else p for p in name.others))


def _apart(one: Name, other: Name) -> bool:
    first, second = _words(one), _words(other)
    return not (first <= second or second <= first)


def _words(name: Name) -> set[str]:
    """Words that name the thing."""
    text = " ".join((name.stem, *name.others))
    return {w for w in text.replace(",", " ").split() if w not in _GENDERED and w not in ("person", "people")}


def contradictions(names: Names, texts: Iterable[str]) -> list[tuple[str, str, tuple[str, str]]]:
    """(picture's name, hypothesis, labels) that two rules label differently; must be empty."""
    found = []
    for text in texts:
        by_label = {label: set(_flat(names.hypotheses(text, label))) for label in LABELS}
        for one, other in combinations(LABELS, 2):
            found += [(text, h, (one, other)) for h in sorted(by_label[one] & by_label[other])]
    return found


def _flat(rules: Mapping[str, list[str]]) -> list[str]:
    return [name for names in rules.values() for name in names]
