"""Versions and requirement strings, as far as this package's own metadata uses them.

A subset of PEP 440 and PEP 508: release numbers; `==` (also `X.*`), `!=`, `>=`, `<=`, `>`, `<`, `~=`;
extras; markers that join comparisons of `extra`, `python_version`, `sys_platform` and
`platform_machine` by `and`. Standard library only.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "mue-edge"
_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?$")


@dataclass(frozen=True)
class Requirement:
    """A package, the versions wanted of it, and the extra that wants it ("" is the core)."""

    package: str
    versions: str
    extra: str = ""
    marker: str = ""


def release(version: str) -> tuple[int, ...]:
    """The release numbers of a version: "2.13.0+cpu" → (2, 13, 0); others than numbers end it."""
    found = re.match(r"\d+(?:\.\d+)*", version.strip())
    return tuple(int(n) for n in found[0].split(".")) if found else ()


def fits(version: str, wanted: str) -> bool:
    """Whether a version lies in a range such as ">=1.20,<2"; an empty range takes all."""
    return all(_clause(release(version), c.strip()) for c in wanted.split(",") if c.strip())


def _clause(version: tuple[int, ...], clause: str) -> bool:
    found = re.match(r"(==|!=|>=|<=|~=|>|<)\s*(.+)$", clause)
    if found is None:
        raise ValueError(f"{clause!r} is no version clause")
    operator, text = found[1], found[2]
    bound = release(text)
    if text.endswith(".*") or operator == "~=":
        length = len(bound) - (operator == "~=")
        same = _pad(version, length)[:length] == bound[:length]
        return same != (operator == "!=") and (operator != "~=" or _compare(version, bound) >= 0)
    order = _compare(version, bound)
    answers = {"==": order == 0, "!=": order != 0, ">=": order >= 0}
    return (answers | {"<=": order <= 0, ">": order > 0, "<": order < 0})[operator]


def _pad(numbers: tuple[int, ...], length: int) -> tuple[int, ...]:
    return numbers + (0,) * (length - len(numbers))


def _compare(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    length = max(len(a), len(b))
    left, right = _pad(a, length), _pad(b, length)
    return (left > right) - (left < right)


def requirements() -> list[Requirement]:
    """What this package asks for: of the checkout that it runs from, else of the installed package.

    Requirements of the package on its own extras are left out. Empty when neither is known.
    """
    return [r for r in _all() if r.package != NAME]


def _all() -> Iterator[Requirement]:
    checkout = Path(__file__).resolve().parent.parent / "pyproject.toml"
    if checkout.is_file():
        project: dict[str, Any] = tomllib.loads(checkout.read_text(encoding="utf-8"))["project"]
        for text in project["dependencies"]:
            yield parse(text)
        for extra, texts in project["optional-dependencies"].items():
            for text in texts:
                yield parse(text, extra)
        return
    try:
        yield from map(parse, importlib.metadata.requires(NAME) or [])
    except importlib.metadata.PackageNotFoundError:
        return


def parse(text: str, extra: str = "") -> Requirement:
    """One requirement string; `extra` is what its own marker says where that is not given."""
    found = _REQUIREMENT.match(text)
    if found is None:
        raise ValueError(f"{text!r} is no requirement")
    marker = (found[4] or "").strip()
    named = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
    return Requirement(found[1], (found[3] or "").strip(), named[1] if named else extra, marker)


def applies(marker: str) -> bool:
    """Whether a marker holds for this Python and system, whatever extra it names."""
    for clause in marker.replace("(", "").replace(")", "").split(" and "):
        found = re.match(
            r"\s*(python_version|sys_platform|platform_machine)\s*(==|!=|>=|<=|>|<)\s*['\"]([^'\"]+)['\"]",
            clause,
        )
        if found is None:
            continue
        name, operator, value = found.groups()
        if name in ("sys_platform", "platform_machine"):
            here = sys.platform if name == "sys_platform" else platform.machine()
            holds = (here == value) == (operator == "==")
        else:
            holds = fits(".".join(platform.python_version_tuple()[:2]), operator + value)
        if not holds:
            return False
    return True


def installed(package: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
