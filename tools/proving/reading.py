"""Which files of the repository a proof read, and whether they are still the same.

Files are *entries*: a path from the root, or a pattern for the pictures of a folder. Only what git tracks, or
would, counts: a figure depends on neither caches nor pages nor other records.
"""

from __future__ import annotations

import ast
import hashlib
import math
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from proving import ROOT
from proving.hook import sitecustomize

# Written from records; and what starts a proof.
APART = ("evidence/", "docs/", "tools/proving/process.py")
PICTURES = (".webp", ".png", ".jpg")
# Of processes that shall note what they read; to be kept where a proof sets a path of its own.
PYTHON_PATH = os.pathsep.join(map(str, (Path(sitecustomize.__file__).parent, ROOT / "tools", ROOT)))


def begin(log: Path) -> None:
    """This process and those that it starts add to `log` what they read; earlier runs may have begun it."""
    os.environ["PYTHONPATH"] = PYTHON_PATH
    os.environ[sitecustomize.LOG] = str(log)
    sitecustomize.watch(str(log))


def noted() -> tuple[str, ...]:
    """The entries that the proof which is measured here has read so far; none outside of one."""
    log = os.environ.get(sitecustomize.LOG)
    return entries(Path(log)) if log else ()


def note(known: Iterable[str]) -> None:
    """Counts entries as read: what something that is taken from a cache was once made from."""
    if log := os.environ.get(sitecustomize.LOG):
        with Path(log).open("a", encoding="utf-8") as file:
            file.writelines(f"{ROOT / entry}\n" for entry in known)


def entries(log: Path) -> tuple[str, ...]:
    """The entries that a log names, sorted."""
    lines = set(log.read_text(encoding="utf-8").splitlines()) if log.is_file() else set()
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    tracked = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    known = {_entry(Path(path)) for path in tracked if not path.startswith(APART) and Path(path).suffix != ".md"}
    return tuple(
        sorted(known & {_entry(path.relative_to(ROOT)) for path in map(_source, lines) if path.is_relative_to(ROOT)})
    )


def _source(line: str) -> Path:
    """The file itself: of bytecode its source, of one behind a link the one that it leads to."""
    path = Path(line)
    if path.parent.name == "__pycache__":
        path = path.parents[1] / f"{path.name.partition('.')[0]}.py"
    return path.parent.resolve() / path.name


def _entry(path: Path) -> str:
    return (path.with_name(f"*{path.suffix}") if path.suffix in PICTURES else path).as_posix()


def digests(known: Iterable[str], begun: float = math.inf) -> dict[str, str]:
    """The hash of each entry, "gone" where there is no file. It is empty, and the record stale, where one was
    written after `begun` (seconds since the epoch): nobody knows which content was read."""
    return {entry: "" if _written(entry) > begun else _digest(entry) for entry in known}


def changed(covers: Mapping[str, str]) -> list[str]:
    """The entries whose files are not what they were."""
    return [entry for entry, digest in covers.items() if _digest(entry) != digest]


def _paths(entry: str) -> list[Path]:
    paths = sorted(ROOT.glob(entry)) if "*" in entry else [ROOT / entry]
    return [path for path in paths if path.is_file()]


def _written(entry: str) -> float:
    return max((path.stat().st_mtime for path in _paths(entry)), default=0.0)


def _digest(entry: str) -> str:
    parts = [_content(path) for path in _paths(entry)]
    if "*" in entry:
        parts = [hashlib.sha256(part).digest() for part in parts]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16] if parts else "gone"


def _content(path: Path) -> bytes:
    """A file as far as figures depend on it: of a proof all but what renders them."""
    data = path.read_bytes()
    if path.parent != ROOT / "tools" / "proofs":
        return data
    lines = data.decode().splitlines(keepends=True)
    for node in ast.parse(data).body:
        if isinstance(node, ast.FunctionDef) and node.name.lstrip("_").startswith("render"):
            lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    return "".join(lines).encode()
