"""Files that appear whole or not at all, their hashes, and where those go that can be made again. Standard
library only."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError


def path_error(problem: OSError, path: str | Path) -> OSError:
    """The same error, of `path` in the place of a temporary file beside it."""
    parent, why = Path(path).parent, problem.strerror or str(problem)
    if isinstance(problem, FileNotFoundError) and not parent.is_dir():
        why = f"there is no folder {parent}"
    return OSError(problem.errno, why, str(path))


@contextmanager
def atomic_folder(destination: str | Path, marker: str) -> Iterator[Path]:
    """A temporary folder beside `destination` that takes its place when the block succeeds.

    An existing `destination` is replaced only if it holds the file `marker` (that is, if it is of
    the same kind) or is empty; on any error it stays as it was. Raises UsageError otherwise, OSError where
    the system refuses.
    """
    target = Path(destination).absolute()
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UsageError(f"{destination} exists and is not a folder; choose another --out")
    if target.is_dir() and any(target.iterdir()) and not (target / marker).is_file():
        raise UsageError(f"{destination} exists and holds other things (no {marker}); choose another --out or empty it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as problem:
        raise path_error(problem, destination) from problem
    try:
        yield work
        work.chmod(0o755)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
            target.replace(old / "replaced")
            work.replace(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            work.replace(target)
    except OSError as problem:
        if problem.filename is None or Path(str(problem.filename)).is_relative_to(work):
            raise path_error(problem, destination) from problem
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place when the block succeeds.

    Raises OSError, of `path`, where the system refuses.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                yield out
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(name).unlink()
            raise
    except OSError as problem:
        raise path_error(problem, path) from problem


def atomic_write(path: str | Path, data: bytes | str) -> None:
    """Write beside `path`, then rename over it. Raises OSError, of `path`, where the system refuses."""
    with atomic_file(path) as out:
        out.write(data.encode("utf-8") if isinstance(data, str) else data)


def open_regular(path: str | Path) -> BinaryIO:
    """A file's bytes, to read. Raises InputFileError for what is missing, and at once for pipes and devices,
    which could block for ever."""
    try:
        if not Path(path).exists():
            raise InputFileError(f"{path} does not exist")
        if not Path(path).is_file():  # asked before it is opened, which may already do something to a device
            raise InputFileError(f"{path} is not a regular file")
        return open(path, "rb", opener=_without_waiting)
    except (OSError, ValueError) as problem:
        raise InputFileError(f"{path} cannot be read: {problem}") from problem


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def user_cache() -> Path:
    """This user's folder for what mue-edge can make again; it may not be there yet.

    Raises EnvironmentLacksError for a user without a home.
    """
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(named) if named else Path.home() / ".cache") / "mue-edge"
    except RuntimeError as problem:
        raise EnvironmentLacksError(
            "this user has no home folder (no HOME, no entry among the system's users); name a folder for "
            "what is kept: export XDG_CACHE_HOME=FOLDER"
        ) from problem


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as problem:
        raise InputFileError(f"cannot read {path}: {problem.strerror}") from problem
    return digest.hexdigest()


def read_at_most(path: str | Path, count: int) -> bytes:
    """The first `count` bytes of a file, in no more memory than it needs.

    Python makes room for as many bytes as a read asks for, and WebAssembly's memory never shrinks again.
    """
    with Path(path).open("rb") as file:
        return file.read(min(count, os.fstat(file.fileno()).st_size + 1))
