"""`mue-edge doctor`: check this installation: what it has, and what it lacks."""

from __future__ import annotations

import importlib
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from mue_edge import machine, versions
from mue_edge.apps.cli.options.common import json_option
from mue_edge.apps.cli.terminal import print_result, say
from mue_edge.errors import EnvironmentLacksError
from mue_edge.files import user_cache

# Packages whose module has another name; the rest is found by its own.
MODULES = {"Pillow": "PIL", "resvg-py": "resvg_py", "tensorrt-rtx": "tensorrt_rtx"}
# For developing mue-edge itself; their absence says nothing to a user.
TOOLS = ("dev",)


@dataclass(frozen=True)
class PackageStatus:
    """state: "ok", "missing", or "version" for one outside of a wanted range.

    wanted: extra ("" is the core) → range of versions; found: the installed version; unmet: the ranges, of
    the core and of extras that are installed, that it lies outside of.
    """

    name: str
    wanted: dict[str, str]
    found: str | None
    state: str
    unmet: tuple[str, ...] = ()


@click.command("doctor")
@json_option("The findings as JSON.")
def command(as_json: bool) -> int:
    """Check this installation: Python, packages and their versions, the cache folder.

    The exit code is 5 if something is broken that every command needs; missing extras are no fault.
    """
    packages = survey()
    broken = _broken(packages)
    cache, writable = _cache()
    facts = {
        "mue-edge": importlib.import_module("mue_edge").__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": machine.cores(),
        "cache": None if cache is None else str(cache),
        "cache_writable": writable,
    }
    record = facts | {"packages": [asdict(p) for p in packages], "broken": broken}
    print_result(as_json, record, _text(facts, packages))
    if not as_json:
        for problem in broken:
            say(f"broken: {problem}")
    return 5 if broken else 0


def _text(facts: dict[str, Any], packages: list[PackageStatus]) -> Iterator[str]:
    for key in ("mue-edge", "python", "platform", "cores"):
        yield f"{key:<12}{facts[key]}"
    note = "" if facts["cache_writable"] else ": not writable, so bundles are hashed at every start"
    yield f"{'cache':<12}{facts['cache'] or 'none, since this user has no home'}{note}\n"
    width = max(len(package.name) for package in packages) + 2
    for package in packages:
        yield _line(package, width)


def survey() -> list[PackageStatus]:
    """Every package that mue-edge can use here, the core's first; each once, with the extras that want it.

    An extra is installed if all of its packages are: nothing is asked of a package for another's sake.
    """
    wanted: dict[str, dict[str, str]] = {}
    for requirement in versions.requirements():
        if requirement.extra not in TOOLS and versions.applies(requirement.marker):
            wanted.setdefault(requirement.package, {})[requirement.extra] = requirement.versions
    installed = {name: versions.installed(name) for name in wanted}
    partial = {extra for name, ranges in wanted.items() if installed[name] is None for extra in ranges} - {""}
    packages = []
    for name, ranges in wanted.items():
        version = installed[name]
        if version is None:
            packages.append(PackageStatus(name, ranges, None, "missing"))
            continue
        relevant = {extra: range_ for extra, range_ in ranges.items() if extra not in partial}
        unmet = tuple(extra for extra, range_ in relevant.items() if not versions.fits(version, range_))
        packages.append(PackageStatus(name, ranges, version, "version" if unmet else "ok", unmet))
    return sorted(packages, key=lambda p: ("" not in p.wanted, p.name.lower()))


def _broken(packages: list[PackageStatus]) -> list[str]:
    """What no command can do without: core packages that are absent, too old, or do not import."""
    problems = []
    for package in packages:
        if "" not in package.wanted:
            continue
        if package.found is None or "" in package.unmet:
            problems.append(_line(package))
            continue
        try:
            importlib.import_module(MODULES.get(package.name, package.name))
        except Exception as problem:  # a broken binary package can raise anything
            problems.append(f"{package.name} {package.found} does not import: {problem}")
    return problems


def _line(package: PackageStatus, width: int = 0) -> str:
    """What there is to say of a package; its name takes `width`, and a space if it is longer."""
    extra = next(iter(package.unmet or package.wanted))
    where = f"pip install 'mue-edge[{extra}]'" if extra else "pip install mue-edge"
    name = f"{package.name:<{max(width, len(package.name) + 1)}}"
    if package.state == "ok":
        return f"{name}{package.found}"
    if package.state == "missing":
        return f"{name}missing; comes with: {where}"
    ranges = "; ".join(f"{extra or 'mue-edge'} wants {package.wanted[extra]}" for extra in package.unmet)
    return f"{name}{package.found}, but {ranges}; cure: {where}"


def _cache() -> tuple[Path | None, bool]:
    """Where stamps of checked bundles are kept (None: there is no home), and whether that can be written."""
    try:
        folder = user_cache()
    except EnvironmentLacksError:
        return None, False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder, True
    except OSError:
        return folder, False
