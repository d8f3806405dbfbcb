"""The bundle that a name stands for: a folder, or the bundled model's, made once into the user's cache."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mue_edge
from mue_edge.apps.cli.catalogue import BUNDLED, DEFAULT, bundled_model, usage
from mue_edge.apps.cli.terminal import export_progress, say
from mue_edge.bundle.folder import open_bundle
from mue_edge.bundle.manifest import MANIFEST
from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError, suggestion
from mue_edge.export import room
from mue_edge.export.prompts import CAPTION, task_of
from mue_edge.files import sha256, user_cache
from mue_edge.reading import is_file

HOST = "host"


def bundle_folder(given: str | Path | None, task: str | None = None) -> Path:
    """The folder of the bundle that `given` names: a bundle (or a model, which whoever opens it refuses) goes
    first, then a bundled model's name stands for its bundle in the cache, made if need be; None is the
    default model's.

    task: what it is wanted for. Raises UsageError for a bundled model of another task, InputFileError for
    what names none.
    """
    if given is None:
        return cached(DEFAULT)
    name, path = str(given), Path(given)
    if is_file(path / MANIFEST) or is_model(path):
        return path
    if name not in BUNDLED:
        raise unknown_bundle(name)
    own = task_of(bundled_model(name))
    if task not in (None, own):
        does = "captions pictures" if own == CAPTION else "judges statements"
        raise UsageError(f"{name} {does}; use: {usage(own, name)}")
    if path.exists():
        say(f"note: {name} is the bundled model here; for what is in this folder by that name write ./{name}")
    return cached(name)


def unknown_bundle(given: str, *more: str) -> InputFileError:
    """The error for a word that names no bundle, nor what `more` says was looked for too."""
    kinds = (f"a bundle folder (with {MANIFEST})", f"a bundled model ({', '.join(BUNDLED)})", *more)
    return InputFileError(
        f"{given}{suggestion(given, BUNDLED)} is none of: {'; '.join(kinds)}. What is at hand: mue-edge list. "
        "Make a bundle with: mue-edge export MODEL --out FOLDER"
    )


def is_bundle(given: str | Path) -> bool:
    """Whether this is a bundle's folder or a bundled model's name."""
    return is_file(Path(given) / MANIFEST) or (str(given) in BUNDLED and not is_model(given))


def is_model(given: str | Path) -> bool:
    """Whether this is a model's folder and no bundle's."""
    return is_file(Path(given) / "config.json") and not is_file(Path(given) / MANIFEST)


def bundles() -> Path:
    """Where bundles of bundled models are kept."""
    return user_cache() / "bundles"


def place_of(name: str, target: str = HOST) -> Path:
    """Where this version keeps the bundle of a bundled model."""
    files = sorted(path for path in bundled_model(name).iterdir() if path.is_file())
    model = " ".join(f"{path.name} {sha256(path)}" for path in files)
    key = hashlib.sha256(f"{model} {mue_edge.__version__}".encode()).hexdigest()[:16]
    return bundles() / f"{name}-{target}-{key}"


def cached(name: str, target: str = HOST) -> Path:
    """The bundle of a bundled model in the user's cache; made if it is missing or damaged, by one process
    while others wait. Raises EnvironmentLacksError where it cannot be made."""
    folder = place_of(name, target)
    if _is_sound(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder) as locked:
            if not _is_sound(folder):  # another process may have made it meanwhile
                _clear(folder, leftovers=locked)
                make(folder, name, target)
    except OSError as problem:
        if _is_sound(folder):  # without a lock, another process was faster
            return folder
        raise EnvironmentLacksError(
            f"the bundle of {name} cannot be kept in {folder.parent}: {problem.strerror or problem}; set "
            f"XDG_CACHE_HOME, or make a bundle of your own with: mue-edge export {name} --out FOLDER"
        ) from problem
    return folder


def _clear(folder: Path, leftovers: bool) -> None:
    """Remove a damaged bundle, and what processes that were killed have left beside it."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    for old in (folder, *(folder.parent.glob(f".{folder.name}.*") if leftovers else ())):
        if old.is_dir():
            shutil.rmtree(old)


def make(folder: Path, name: str, target: str = HOST) -> None:
    """Export a bundled model to a folder. Raises EnvironmentLacksError without the extra that this needs."""
    try:
        build, _ = room()
    except EnvironmentLacksError as problem:
        raise EnvironmentLacksError(
            f"the bundled model {name} must be exported once, but {problem}; a bundle that was made "
            "elsewhere needs no such package"
        ) from problem
    say(f"exporting the bundled model {name} to {folder} (once); it knows emoji-like stickers, nothing else")
    build.export(bundled_model(name), folder, target, {}, export_progress(), name)


def _is_sound(folder: Path) -> bool:
    """Whether a sound bundle is there; hashed, since a stamp cannot tell every damage."""
    try:
        open_bundle(folder, paranoid=True)
    except InputFileError:
        return False
    return True


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """One process at a time; False where the system, or the file system, has no locks."""
    try:
        import fcntl
    except ImportError:
        yield False
        return
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        locked = True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that makes {folder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            locked = False
        yield locked
