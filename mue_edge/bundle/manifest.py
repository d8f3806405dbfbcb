"""The manifest of a bundle: what `manifest.json` holds, and its strict reader. Standard library only."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mue_edge import schema
from mue_edge.bundle import version_1
from mue_edge.bundle.policy_files import from_json as policy_from_json
from mue_edge.errors import InputFileError, command_line
from mue_edge.inputs.statements import Template, field_problem, field_problems
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import CONSTANT, DECODER, PICTURE, SOURCES, WORDS, Layout
from mue_edge.loop.search import SearchSettings
from mue_edge.loop.signals import SIGNALS
from mue_edge.reading import is_file, read_json

SCHEMA = 2
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 << 20
MAX_SCALE = 1e6  # how large a picture's mean and std, and 1 / std, may be: float32 holds what they lead to

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
class FusedSegment:
    """One graph that does what several segments do, one after the other.

    members: these segments. graph: its ports are theirs, as MEMBER:PORT. wires: every other input of theirs →
    the port that it is the same as: of an earlier member's output, or an input of the graph.
    """

    members: tuple[str, ...]
    wires: Mapping[str, str]
    graph: Segment


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
class RuntimeVersion:
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
        for name, values, least in (("mean", self.mean, -MAX_SCALE), ("std", self.std, 1 / MAX_SCALE)):
            if len(values) != 3 or not all(least <= value <= MAX_SCALE for value in values):
                raise InputFileError(
                    f"the pictures' {name} is {list(values)}; expected: three numbers, for red, green and "
                    f"blue, of {least:g} to {MAX_SCALE:g}"
                )


@dataclass(frozen=True)
class Evidence:
    """The highest verification level that was reached (`rung`), with what it was reached on."""

    rung: str
    versions: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`. `front` runs from the fastest policy to full depth; `chosen` names one.

    `prompt` is the source text; of a bundle that judges statements, the text around {hypothesis}, and
    `answers` are the words of `search.answers`. `caption_prompt` is the text around {caption} and
    {hypothesis}, of a model that was trained with captions of the pictures. `articles_in` and `words`: see
    `statements.Template`. `knows` tells users how little the model was trained on; it may be empty.
    `fused`: graphs over the same weights that runtimes may run in the place of several segments.
    """

    schema: int
    name: str
    family: str
    task: str
    target: str
    precision: str
    runtime: RuntimeVersion
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
    fused: Mapping[str, FusedSegment] = field(default_factory=dict)

    @property
    def initial_policy(self) -> str:
        """The policy that pages and apps start with: the chosen one; of a model whose `knows` says something,
        and that was not calibrated, the slowest policy that exits early."""
        policies = self.policies()
        early = [name for name, policy in policies.items() if policy.rule != "never"]
        if not self.knows or not early or self.chosen in early or policies[self.chosen].seconds is not None:
            return self.chosen
        return early[-1]

    @cached_property
    def template(self) -> Template:
        """The source text around a statement."""
        return Template(self.prompt, self.caption_prompt, self.articles_in, self.words)

    def policies(self) -> dict[str, Policy]:
        """The front by name."""
        policies = [policy_from_json(p, f"{MANIFEST}: front[{i}]") for i, p in enumerate(self.front)]
        return {policy.name: policy for policy in policies}


def plan_hash(plan: Mapping[str, Any]) -> str:
    """Hash of a plan's JSON; policies carry it, so that they cannot be used with another plan."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle, read strictly; its files are not looked at. Raises InputFileError."""
    path = folder / MANIFEST
    if is_file(path) and path.is_symlink():
        raise link_error(folder, MANIFEST)
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
    problem = field_problem(manifest.prompt)
    if manifest.answers:
        problem = field_problems(manifest.prompt, manifest.caption_prompt)
    if problem:
        raise InputFileError(
            f"{path}: the source text {problem}; import the checkpoint again and export what comes out"
        )
    names = manifest.policies()
    if "" in names or len(names) < len(manifest.front):
        raise InputFileError(f"{path}: the front's policies need names that differ; export the bundle again")
    if manifest.chosen not in names:
        raise InputFileError(f"{path}: the chosen policy {manifest.chosen!r} is not in the front ({', '.join(names)})")
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


def link_error(folder: Path, name: str) -> InputFileError:
    copy = shlex.join(["cp", "-rL", str(folder), f"{folder.resolve().name}-copy"])
    return InputFileError(
        f"{folder}: {name} goes through a link; bundles hold none. Where a cache keeps its files so (Hugging "
        f"Face's does), copy what the links point to: {copy}"
    )
