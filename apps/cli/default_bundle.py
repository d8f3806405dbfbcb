"""The bundle that a name stands for: a folder, or the bundled model's, made once into the user's cache."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mue_edge
from mue_edge.apps.cli.catalogue import BUNDLED, DEFAULT, bundled_model
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
    if has(path, MANIFEST) or is_model(path):
        return path
    if name not in BUNDLED:
        raise nothing(name)
    own = task_of(bundled_model(name))
    if task not in (None, own):
        raise UsageError(f"{name} {_use(name, own)}")
    if path.exists():
        say(f"note: {name} is the bundled model here; for what is in this folder by that name write ./{name}")
    return cached(name)


def _use(name: str, task: str) -> str:
    if task == CAPTION:
        return f"captions pictures; use: mue-edge caption {name} PICTURE"
    return f'judges statements; use: mue-edge entail {name} PICTURE "STATEMENT"'


def nothing(given: str, *more: str) -> InputFileError:
    """The error for a word that names no bundle, nor what `more` says was looked for too."""
    looked = (f"a bundle folder (with {MANIFEST})", f"a bundled model ({', '.join(BUNDLED)})", *more)
    return InputFileError(
        f"{given}{suggestion(given, BUNDLED)} is none of: {'; '.join(looked)}. What is at hand: "
        "mue-edge list. Make a bundle with: mue-edge export MODEL --out FOLDER"
    )


def is_bundle(given: str | Path) -> bool:
    """Whether this is a bundle's folder or a bundled model's name."""
    return has(Path(given), MANIFEST) or (str(given) in BUNDLED and not is_model(given))


def is_model(given: str | Path) -> bool:
    """Whether this is a model's folder and no bundle's."""
    return has(Path(given), "config.json") and not has(Path(given), MANIFEST)


def has(folder: Path, file: str) -> bool:
    """Whether a folder holds a file; also of names that no folder can have."""
    return is_file(folder / file)


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
    place = place_of(name, target)
    if _whole(place):
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place) as alone:
            if not _whole(place):  # another process may have made it meanwhile
                _clear(place, leftovers=alone)
                make(place, name, target)
    except OSError as problem:
        if _whole(place):  # without a lock, another process was faster
            return place
        raise EnvironmentLacksError(
            f"the bundle of {name} cannot be kept in {place.parent}: {problem.strerror or problem}; set "
            f"XDG_CACHE_HOME, or make a bundle of your own with: mue-edge export {name} --out FOLDER"
        ) from problem
    return place


def _clear(place: Path, leftovers: bool) -> None:
    """Remove what is there and damaged, and what processes that were killed have left beside it."""
    if place.is_symlink() or place.is_file():
        place.unlink()
    for left in (place, *(place.parent.glob(f".{place.name}.*") if leftovers else ())):
        if left.is_dir():
            shutil.rmtree(left)


def make(place: Path, name: str, target: str = HOST) -> None:
    """Export a bundled model to a folder. Raises EnvironmentLacksError without the extra that this needs."""
    try:
        build, _ = room()
    except EnvironmentLacksError as problem:
        raise EnvironmentLacksError(
            f"the bundled model {name} must be exported once, but {problem}; a bundle that was made "
            "elsewhere needs no such package"
        ) from problem
    say(f"exporting the bundled model {name} to {place} (once); it knows emoji-like stickers, nothing else")
    build.export(bundled_model(name), place, target, {}, export_progress(), name)


def _whole(place: Path) -> bool:
    """Whether a sound bundle is there; hashed, since a stamp cannot tell every damage."""
    try:
        open_bundle(place, paranoid=True)
    except InputFileError:
        return False
    return True


@contextmanager
def _alone(place: Path) -> Iterator[bool]:
    """One process at a time; False where the system, or the file system, has no locks."""
    try:
        import fcntl
    except ImportError:
        yield False
        return
    with (place.parent / f".{place.name}.lock").open("w") as lock:
        locked = True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that makes {place}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            locked = False
        yield locked
