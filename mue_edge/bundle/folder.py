"""The bundle: the folder that a device gets, opened, checked, and given other policies.

Standard library only. Nothing of a bundle reaches a runtime before it was checked here: sizes,
hashes, paths that stay inside, no links, no unknown keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from mue_edge import schema
from mue_edge.bundle.manifest import MANIFEST, FileEntry, Manifest, link_error, read_manifest
from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError
from mue_edge.files import atomic_write, sha256, user_cache
from mue_edge.loop.policy import Policy

MAX_FILE_BYTES = 16 << 30
NAME_SHOWN = 80  # characters of a file's name in an error


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder and its checked manifest."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """A file of the bundle, its hash checked now."""
        entry = self.manifest.files.get(name)
        if entry is None:
            raise InputFileError(f"{self.path}: the manifest lists no file {name!r}")
        _check_hash(self.path, name, entry)
        return self.path / name


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json into a bundle that is being made."""
    atomic_write(folder / MANIFEST, json.dumps(schema.encode(manifest), indent=1) + "\n")


def with_pareto_front(path: str | Path, policies: Sequence[Policy], chosen: str) -> Bundle:
    """Give a bundle another Pareto front, from the fastest policy to full depth, of which `chosen` is named.

    Policies get the bundle's plan hash. Raises UsageError, and leaves the bundle as it was, for a front that
    does not fit it.
    """
    folder, manifest = Path(path), open_bundle(path).manifest
    names = [policy.name for policy in policies]
    foreign = [p.name for p in policies if p.plan not in (None, manifest.plan_hash)]
    lacking = sorted({stack for p in policies for stack in p.exits} - set(manifest.layout.depths()))
    seconds = [p.seconds for p in policies if p.seconds is not None]
    listed, stacks = ", ".join(names), ", ".join(manifest.layout.depths())
    checks = (
        ("" not in names and len(set(names)) == len(names), f"policies need names that differ: {names}"),
        (policies and not policies[-1].may_exit, f"a front ends with full depth: {names}"),
        (seconds == sorted(seconds), f"a front goes from the fastest policy to full depth: {names}, {seconds} seconds"),
        (chosen in names, f"the chosen policy {chosen!r} is not in the front ({listed})"),
        (not lacking, f"policies name the stacks {', '.join(lacking)}; it has {stacks}"),
        (not foreign, f"{', '.join(foreign)} were made for another plan than {manifest.plan_hash}; calibrate again"),
    )
    for passed, problem in checks:
        if not passed:
            raise UsageError(f"{folder}: {problem}")
    front = tuple(replace(policy, plan=manifest.plan_hash).to_json() for policy in policies)
    write_manifest(folder, replace(manifest, front=front, chosen=chosen))
    return open_bundle(folder)


def open_bundle(path: str | Path, *, paranoid: bool = False) -> Bundle:
    """Read and check a bundle.

    All files are hashed the first time, or always if `paranoid`; later opens compare size, time
    and inode with a stamp in the user's cache. Raises InputFileError.
    """
    folder = Path(path)
    manifest = checked_manifest(folder)
    stamp = _stamp(folder, manifest)
    if paranoid or _read_stamp(folder) != stamp:
        for name, entry in manifest.files.items():
            _check_hash(folder, name, entry)
        if not paranoid:
            _write_stamp(folder, stamp)
    return Bundle(folder, manifest)


def checked_manifest(folder: Path) -> Manifest:
    """A bundle's manifest; of its files only paths and sizes are checked. Raises InputFileError."""
    manifest = read_manifest(folder)
    for name, entry in manifest.files.items():
        _check_file(folder, name, entry)
    graphs = {**manifest.segments, **{name: fused.graph for name, fused in manifest.fused.items()}}
    for name, segment in graphs.items():
        if segment.file not in manifest.files:
            raise InputFileError(f"{folder}: segment {name} names {segment.file!r}, which the manifest does not list")
    for name, fused in manifest.fused.items():
        if len(fused.members) < 2 or not manifest.segments.keys() >= set(fused.members) or name in manifest.segments:
            raise InputFileError(f"{folder}: the fused segment {name} is not one of several segments of the bundle")
    for name, constant in manifest.constants.items():
        file = manifest.files.get(constant.file)
        if file is None or not 0 <= constant.offset <= file.bytes:
            raise InputFileError(f"{folder}: constant {name} does not lie in a file of the bundle")
    return manifest


def _check_file(folder: Path, name: str, entry: FileEntry) -> None:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or set(name) & set("\\:") or set(parts) & {"..", "."}:
        raise InputFileError(f"{folder}: the manifest names {name[:NAME_SHOWN]!r}, a path that leaves the bundle")
    try:
        path = folder
        for part in parts:
            path = path / part
            if path.is_symlink():
                raise link_error(folder, name)
        if not path.is_file():
            raise InputFileError(f"{folder}: {name} is missing; copy the bundle again or export it again")
        size = path.stat().st_size
    except OSError as problem:  # such as a name that is too long for the file system
        raise InputFileError(f"{folder}: {name[:NAME_SHOWN]!r}: {problem.strerror}") from problem
    if size != entry.bytes or size > MAX_FILE_BYTES:
        raise InputFileError(f"{folder}: {name} has {size} bytes, the manifest says {entry.bytes}")


def _check_hash(folder: Path, name: str, entry: FileEntry) -> None:
    if sha256(folder / name) != entry.sha256:
        raise InputFileError(f"{folder}: {name} was changed (its hash differs); copy or export the bundle again")


def _stamp_path(folder: Path) -> Path:
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]
    return user_cache() / "stamps" / f"{key}.json"


def _stamp(folder: Path, manifest: Manifest) -> dict[str, list[int] | str]:
    stamp: dict[str, list[int] | str] = {"manifest": sha256(folder / MANIFEST)}
    for name in manifest.files:
        s = (folder / name).stat()
        stamp[name] = [s.st_size, s.st_mtime_ns, s.st_ino]
    return stamp


def _read_stamp(folder: Path) -> object:
    with suppress(OSError, ValueError, EnvironmentLacksError):
        return json.loads(_stamp_path(folder).read_text(encoding="utf-8"))
    return None


def _write_stamp(folder: Path, stamp: object) -> None:
    with suppress(OSError, EnvironmentLacksError):  # without a home only the hashing is done again
        path = _stamp_path(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(stamp))
