"""Versions and requirement strings, as far as this package's own metadata uses them.

A subset of PEP 440 and PEP 508: release numbers; `==` (also `X.*`), `!=`, `>=`, `<=`, `>`, `<`, `~=`;
extras; markers that join comparisons of `extra`, `python_version`, `sys_platform` and
`platform_machine` by `and`. Standard library only.
"""

from __future__ import annotations

import operator
import platform
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "mue-edge"
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?$")
_COMPARISON = re.compile(r"(python_version|sys_platform|platform_machine)\s*(==|!=|>=|<=|>|<)\s*['\"]([^'\"]+)['\"]")


@dataclass(frozen=True)
class Requirement:
    """A package, the versions wanted of it, and the extra that wants it ("" is the core)."""

    package: str
    versions: str
    extra: str = ""
    marker: str = ""


def release(version: str) -> tuple[int, ...]:
    """The release numbers of a version: "2.13.0+cpu" → (2, 13, 0); others than numbers end it."""
    match = re.match(r"\d+(?:\.\d+)*", version.strip())
    return tuple(map(int, match[0].split("."))) if match else ()


def fits(version: str, ranges: str) -> bool:
    """Whether a version lies in ranges such as ">=1.20,<2"; empty ranges take all."""
    return all(_satisfies(release(version), c.strip()) for c in ranges.split(",") if c.strip())


def _satisfies(version: tuple[int, ...], clause: str) -> bool:
    match = re.match(r"(==|!=|>=|<=|~=|>|<)\s*(.+)$", clause)
    if match is None:
        raise ValueError(f"{clause!r} is no version clause")
    name, text = match.groups()
    bound = release(text)
    if text.endswith(".*") or name == "~=":
        prefix = bound[: len(bound) - (name == "~=")]
        same = (*version, *[0] * len(prefix))[: len(prefix)] == prefix
        return same != (name == "!=") and (name != "~=" or _stripped(version) >= _stripped(bound))
    return _OPERATORS[name](_stripped(version), _stripped(bound))


def _stripped(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Without zeros at the end, so that 2.0 equals 2."""
    while numbers and numbers[-1] == 0:
        numbers = numbers[:-1]
    return numbers


def requirements() -> list[Requirement]:
    """What this package asks for: of the checkout that it runs from, else of the installed package.

    Requirements of the package on its own extras are left out. Empty when neither is known.
    """
    checkout = Path(__file__).resolve().parent.parent / "pyproject.toml"
    all_of_them: list[Requirement] = []
    if checkout.is_file():
        project: dict[str, Any] = tomllib.loads(checkout.read_text(encoding="utf-8"))["project"]
        by_extra = {"": project["dependencies"], **project["optional-dependencies"]}
        all_of_them = [parse(text, extra) for extra, texts in by_extra.items() for text in texts]
    else:
        from importlib import metadata

        with suppress(metadata.PackageNotFoundError):
            all_of_them = [parse(text) for text in metadata.requires(NAME) or []]
    return [requirement for requirement in all_of_them if requirement.package != NAME]


def parse(text: str, extra: str = "") -> Requirement:
    """One requirement string; `extra` is what its own marker says where that is not given."""
    match = _REQUIREMENT.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no requirement")
    marker = (match[4] or "").strip()
    named = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
    return Requirement(match[1], (match[3] or "").strip(), named[1] if named else extra, marker)


def applies(marker: str) -> bool:
    """Whether a marker holds for this Python and system, whatever extra it names."""
    here = {"sys_platform": sys.platform, "platform_machine": platform.machine()}
    python = ".".join(platform.python_version_tuple()[:2])
    for name, comparison, value in _COMPARISON.findall(marker):
        if name == "python_version":
            holds = fits(python, comparison + value)
        else:
            holds = (here[name] == value) == (comparison == "==")
        if not holds:
            return False
    return True


def installed(package: str) -> str | None:
    """Version of an installed distribution, or None."""
    from importlib import metadata  # a fifteenth of the time of a caption, which needs none of it

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
