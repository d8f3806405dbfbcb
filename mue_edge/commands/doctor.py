"""`mue-edge doctor`: what this installation has, what it lacks, and what would install it."""

from __future__ import annotations

import importlib
import json
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from mue_edge import machine
from mue_edge.errors import EnvironmentLacksError
from mue_edge.files import user_cache

# Packages whose module has another name; the rest is found by its own.
MODULES = {"Pillow": "PIL", "resvg-py": "resvg_py", "tensorrt-rtx": "tensorrt_rtx"}
# For developing mue-edge itself; their absence says nothing to a user.
TOOLS = ("dev",)


@dataclass(frozen=True)
class Package:
    """state: "ok", "missing", or "version" for one outside of a wanted range.

    wanted: extra ("" is the core) → range of versions.
    """

    name: str
    wanted: dict[str, str]
    found: str | None
    state: str


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON.")
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
    if as_json:
        record = facts | {"packages": [asdict(p) for p in packages], "broken": broken}
        click.echo(json.dumps(record, indent=1))
        return 5 if broken else 0
    for key in ("mue-edge", "python", "platform", "cores"):
        click.echo(f"{key:<12}{facts[key]}")
    note = "" if writable else ": not writable, so bundles are hashed at every start"
    click.echo(f"{'cache':<12}{cache or 'none, since this user has no home'}{note}\n")
    for package in packages:
        click.echo(_line(package))
    for problem in broken:
        click.echo(f"broken: {problem}", err=True)
    return 5 if broken else 0


def survey() -> list[Package]:
    """Every package that mue-edge can use, the core's first; each once, with the extras that want it."""
    from mue_edge import versions

    wanted: dict[str, dict[str, str]] = {}
    for requirement in versions.requirements():
        if requirement.extra not in TOOLS and not _for_old_python(requirement):
            wanted.setdefault(requirement.package, {})[requirement.extra] = requirement.versions
    packages = []
    for name, ranges in wanted.items():
        found = versions.installed(name)
        fine = found is not None and all(versions.fits(found, r) for r in ranges.values())
        state = "ok" if fine else "missing" if found is None else "version"
        packages.append(Package(name, ranges, found, state))
    return sorted(packages, key=lambda p: ("" not in p.wanted, p.name.lower()))


def _for_old_python(requirement: object) -> bool:
    return sys.version_info >= (3, 11) and "python_version" in getattr(requirement, "marker", "")


def _broken(packages: list[Package]) -> list[str]:
    """What no command can do without: core packages that are absent, too old, or do not import."""
    from mue_edge import versions

    problems = []
    for package in packages:
        if "" not in package.wanted:
            continue
        if package.found is None or not versions.fits(package.found, package.wanted[""]):
            problems.append(_line(package))
            continue
        try:
            importlib.import_module(MODULES.get(package.name, package.name))
        except Exception as problem:  # a broken binary package can raise anything
            problems.append(f"{package.name} {package.found} does not import: {problem}")
    return problems


def _line(package: Package) -> str:
    extra = next(iter(package.wanted))
    where = f"pip install 'mue-edge[{extra}]'" if extra else "pip install mue-edge"
    if package.state == "ok":
        return f"{package.name:<14}{package.found}"
    if package.state == "missing":
        return f"{package.name:<14}missing; comes with: {where}"
    ranges = "; ".join(f"{extra or 'mue-edge'} wants {r}" for extra, r in package.wanted.items() if r)
    return f"{package.name:<14}{package.found}, but {ranges}; cure: {where}"


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
