"""The bundle: the folder that a device gets, its manifest, and its strict reader.

Standard library only. Nothing of a bundle reaches a runtime before it was checked here: sizes,
hashes, paths that stay inside, no links, no unknown keys.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from mue_edge import schema, version_1
from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError, command_line
from mue_edge.files import atomic_write, sha256, user_cache
from mue_edge.policy import Policy
from mue_edge.policy_files import from_json as policy_from_json
from mue_edge.protocol import CONSTANT, DECODER, PICTURE, SOURCES, WORDS, Layout
from mue_edge.reading import is_file, read_json
from mue_edge.search import SearchSettings
from mue_edge.signals import SIGNALS
from mue_edge.statements import Template, misplaced, misplaced_of

SCHEMA = 2
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 << 20
MAX_FILE_BYTES = 16 << 30
NAME_SHOWN = 80  # characters of a file's name in an error
FAR = 1e6  # how large a picture's mean and std, and 1 / std, may be: float32 holds what they lead to

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Port:
    """A named input or output of a segment; dtype is numpy's name."""

    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Segment:
    """One graph: layers first+1 … last of its stack (both 0 outside the stacks).

    weight_bytes: of the tensors that it refers to. macs: multiply-adds of its matrix products and
    convolutions in one run.
    """

    file: str
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    stack: str = ""
    first: int = 0
    last: int = 0
    weight_bytes: int = 0
    macs: int = 0


@dataclass(frozen=True)
class Constant:
    """A tensor in a file of the bundle; with `index` it is a table whose rows the int32 constant of
    that name picks: value[..., i, j] = table[index[i, j]] (expanded once, when it is first used)."""

    file: str
    offset: int
    shape: tuple[int, ...]
    dtype: str = "float32"
    index: str | None = None


@dataclass(frozen=True)
class FileEntry:
    """Size and hash of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Runtime:
    """The runtime that the segments are made for, with its version range (PEP 440)."""

    name: str
    versions: str


@dataclass(frozen=True)
class Preprocess:
    """RGB, bicubic to height × width, /255, (x − mean) / std by channel. Raises InputFileError for a mean or
    std by which no picture can be scaled."""

    height: int
    width: int
    mean: Channels = (0.5, 0.5, 0.5)
    std: Channels = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        for name, values, least in (("mean", self.mean, -FAR), ("std", self.std, 1 / FAR)):
            if len(values) != 3 or not all(least <= value <= FAR for value in values):
                raise InputFileError(
                    f"the pictures' {name} is {list(values)}; expected: three numbers, for red, green and "
                    f"blue, of {least:g} to {FAR:g}"
                )


@dataclass(frozen=True)
class Evidence:
    """The highest rung of the verification ladder that was reached, with what it was reached on."""

    rung: str
    versions: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`. `front` runs from the fastest policy to full depth; `chosen` names one.

    `prompt` is the source text; of a bundle that judges statements, the text around {hypothesis}, and
    `answers` are the words of `search.answers`. `caption_prompt` is the text around {caption} and
    {hypothesis}, of a model that was trained with captions of the pictures. `articles_in` and `words`: see
    `statements.Template`. `knows` says what little the model was trained on; empty: nothing is said.
    """

    schema: int
    name: str
    family: str
    task: str
    target: str
    precision: str
    runtime: Runtime
    model: Mapping[str, Any]
    plan: Mapping[str, Any]
    plan_hash: str
    segments: Mapping[str, Segment]
    constants: Mapping[str, Constant]
    files: Mapping[str, FileEntry]
    layout: Layout
    search: SearchSettings
    preprocess: Preprocess
    front: tuple[dict[str, Any], ...] = ()
    chosen: str = ""
    prompt: str = ""
    answers: tuple[str, ...] = ()
    evidence: Evidence = field(default_factory=lambda: Evidence("none"))
    caption_prompt: str = ""
    articles_in: tuple[str, ...] | None = None
    words: str = ""
    knows: str = ""

    @property
    def opening(self) -> str:
        """The policy that pages and apps open on: the chosen one; of a model that comes with words about what
        little it knows, and was not calibrated, the slowest that leaves early, with full depth beside it."""
        shown = self.policies()
        early = [name for name, policy in shown.items() if policy.rule != "never"]
        if not self.knows or not early or self.chosen in early or shown[self.chosen].seconds is not None:
            return self.chosen
        return early[-1]

    @cached_property
    def template(self) -> Template:
        """How a statement is asked about."""
        return Template(self.prompt, self.caption_prompt, self.articles_in, self.words)

    def policies(self) -> dict[str, Policy]:
        """The front by name."""
        found = [policy_from_json(p, f"{MANIFEST}: front[{i}]") for i, p in enumerate(self.front)]
        return {policy.name: policy for policy in found}


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


def plan_hash(plan: Mapping[str, Any]) -> str:
    """Hash of a plan's JSON; policies carry it, so that they cannot be used with another plan."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json into a bundle that is being made."""
    atomic_write(folder / MANIFEST, json.dumps(schema.encode(manifest), indent=1) + "\n")


def with_front(path: str | Path, policies: Sequence[Policy], chosen: str) -> Bundle:
    """Give a bundle another front, from the fastest policy to full depth, of which `chosen` is named.

    Policies get the bundle's plan hash. Raises UsageError, and leaves the bundle as it was, for a front that
    does not fit it.
    """
    folder, manifest = Path(path), open_bundle(path).manifest
    names = [policy.name for policy in policies]
    foreign = [p.name for p in policies if p.plan not in (None, manifest.plan_hash)]
    lacking = sorted({stack for p in policies for stack in p.exits} - set(manifest.layout.depths()))
    seconds = [p.seconds for p in policies if p.seconds is not None]
    problem = ""
    if "" in names or len(set(names)) < len(names):
        problem = f"policies need names that differ: {names}"
    elif not policies or policies[-1].may_exit:
        problem = f"a front ends with full depth: {names}"
    elif seconds != sorted(seconds):
        problem = f"a front goes from the fastest policy to full depth: {names}, {seconds} seconds"
    elif chosen not in names:
        problem = f"the chosen policy {chosen!r} is not in the front ({', '.join(names)})"
    elif lacking:
        problem = (
            f"policies name the stacks {', '.join(lacking)}; it has {', '.join(manifest.layout.depths())}"
        )
    elif foreign:
        problem = (
            f"{', '.join(foreign)} were made for another plan than {manifest.plan_hash}; calibrate again"
        )
    if problem:
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
    manifest = look(folder)
    stamp = _stamp(folder, manifest)
    if paranoid or _read_stamp(folder) != stamp:
        for name, entry in manifest.files.items():
            _check_hash(folder, name, entry)
        if not paranoid:
            _write_stamp(folder, stamp)
    return Bundle(folder, manifest)


def look(folder: Path) -> Manifest:
    """A bundle's manifest, checked; of its files only places and sizes. Raises InputFileError."""
    manifest = read_manifest(folder)
    for name, entry in manifest.files.items():
        _check_file(folder, name, entry)
    for name, segment in manifest.segments.items():
        if segment.file not in manifest.files:
            raise InputFileError(
                f"{folder}: segment {name} names {segment.file!r}, which the manifest does not list"
            )
    for name, constant in manifest.constants.items():
        if (
            constant.file not in manifest.files
            or not 0 <= constant.offset <= manifest.files[constant.file].bytes
        ):
            raise InputFileError(f"{folder}: constant {name} does not lie in a file of the bundle")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle, read strictly; its files are not looked at. Raises InputFileError."""
    path = folder / MANIFEST
    if is_file(path) and path.is_symlink():
        raise _link(folder, MANIFEST)
    if not is_file(path):
        if is_file(folder / "config.json"):
            raise InputFileError(
                f"{folder} is a model folder, not a bundle; make one with: {command_line('export', folder)}"
            )
        raise InputFileError(
            f"{folder} is not a bundle: it holds no {MANIFEST}. Make one with: "
            + command_line("export", "--out", folder)
        )
    data = read_json(path, MAX_MANIFEST_BYTES)
    version = data.get("schema") if isinstance(data, dict) else None
    if version == 1 and type(version) is int:
        data = version_1.manifest(data)
    elif version != SCHEMA:
        raise InputFileError(
            f"{path} has schema {version!r}; this mue-edge reads 1 and {SCHEMA}. Export the bundle again."
        )
    manifest = schema.decode(Manifest, data, MANIFEST)
    _check_stacks(path, manifest.layout)
    if plan_hash(manifest.plan) != manifest.plan_hash:
        raise InputFileError(f"{path}: plan_hash is not the hash of the plan")
    judges = bool(manifest.answers)
    open_field = (
        misplaced_of(manifest.prompt, manifest.caption_prompt) if judges else misplaced(manifest.prompt)
    )
    if open_field:
        raise InputFileError(
            f"{path}: the source text {open_field}; import the checkpoint again and export what comes out"
        )
    names = manifest.policies()
    if "" in names or len(names) < len(manifest.front):
        raise InputFileError(f"{path}: the front's policies need names that differ; export the bundle again")
    if manifest.chosen not in names:
        raise InputFileError(
            f"{path}: the chosen policy {manifest.chosen!r} is not in the front ({', '.join(names)})"
        )
    return manifest


def _check_stacks(path: Path, layout: Layout) -> None:
    names = [stack.name for stack in layout.stacks]
    problem = ""
    if names[-1:] != [DECODER] or [s.name for s in layout.of_source(WORDS)] != [DECODER]:
        problem = f"the last stack is the decoder, and no other: {names}"
    elif len(set(names)) < len(names):
        problem = f"stacks need names that differ: {names}"
    elif len(layout.of_source(PICTURE)) != 1:
        problem = f"one stack looks at the picture, not {len(layout.of_source(PICTURE))} of them: {names}"
    for stack in layout.stacks:
        signals = {signal for stage in stack.stages for signal in stage.signals} - set(SIGNALS)
        if signals:
            problem = f"unknown signals {sorted(signals)}; known: {', '.join(SIGNALS)}"
        elif stack.source not in SOURCES:
            problem = f"stack {stack.name}: unknown source {stack.source!r}; known: {', '.join(SOURCES)}"
        elif bool(stack.stages) == (stack.source == CONSTANT) or not stack.ends:
            problem = f"stack {stack.name}: a constant text has distances, any other stack has stages"
    if problem:
        raise InputFileError(f"{path}: {problem}")


def _check_file(folder: Path, name: str, entry: FileEntry) -> None:
    parts = PurePosixPath(name).parts
    if (
        not parts
        or name.startswith("/")
        or "\\" in name
        or ":" in name
        or any(p in ("..", ".") for p in parts)
    ):
        raise InputFileError(
            f"{folder}: the manifest names {name[:NAME_SHOWN]!r}, a path that leaves the bundle"
        )
    try:
        path = folder
        for part in parts:
            path = path / part
            if path.is_symlink():
                raise _link(folder, name)
        if not path.is_file():
            raise InputFileError(f"{folder}: {name} is missing; copy the bundle again or export it again")
        size = path.stat().st_size
    except OSError as problem:  # such as a name that is too long for the file system
        raise InputFileError(f"{folder}: {name[:NAME_SHOWN]!r}: {problem.strerror}") from problem
    if size != entry.bytes or size > MAX_FILE_BYTES:
        raise InputFileError(f"{folder}: {name} has {size} bytes, the manifest says {entry.bytes}")


def _link(folder: Path, name: str) -> InputFileError:
    copy = shlex.join(["cp", "-rL", str(folder), f"{folder.resolve().name}-copy"])
    return InputFileError(
        f"{folder}: {name} goes through a link; bundles hold none. Where a cache keeps its files so (Hugging "
        f"Face's does), copy what the links point to: {copy}"
    )


def _check_hash(folder: Path, name: str, entry: FileEntry) -> None:
    if sha256(folder / name) != entry.sha256:
        raise InputFileError(
            f"{folder}: {name} was changed (its hash differs); copy or export the bundle again"
        )


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
