"""Model folder → bundle: cut, convert, verify, write, all or nothing."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mue_edge import models, targets
from mue_edge.bundle.folder import Bundle, open_bundle, write_manifest
from mue_edge.bundle.manifest import (  # fmt: skip
    MANIFEST,
    SCHEMA,
    Constant,
    Evidence,
    FileEntry,
    Manifest,
    Preprocess,
    RuntimeVersion,
    plan_hash,
)
from mue_edge.bundle.policy_files import from_json as policy_from_json
from mue_edge.errors import InputFileError, UsageError
from mue_edge.export import formats, golden, plan
from mue_edge.export.prompts import Prompt, read_prompt, task_of
from mue_edge.export.reference import TorchRuntime
from mue_edge.export.verify import check_graphs
from mue_edge.files import atomic_folder, sha256
from mue_edge.inputs import image, tokens
from mue_edge.inputs.statements import source_ids
from mue_edge.models.cut import Cut
from mue_edge.models.family import Description
from mue_edge.reading import read_json
from mue_edge.targets.golden import SUMS, pixels, write_sums
from mue_edge.targets.verify import Verified, verify

CONSTANTS = "constants.bin"

FULL = {"rule": "never", "name": "full"}


@dataclass(frozen=True)
class Exported:
    """What was made: the bundle, and what verification found; None where this machine cannot run it.
    notes: what the format says of single segments; summary: its lines for the report."""

    bundle: Bundle
    graph_error: float | None
    loop: Verified | None
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    summary: tuple[str, ...] = ()


def read_front(folder: Path) -> tuple[dict[str, Any], ...]:
    """The model's own policies (policies.json, from fastest to slowest, if there is one), then full depth.

    They hold for every plan: similarity scores do not depend on how layers are grouped.
    Raises InputFileError for a file that does not fit.
    """
    path = folder / "policies.json"
    if not path.is_file():
        return (FULL,)
    listed = read_json(path)
    if not isinstance(listed, list):
        raise InputFileError(f"{path} is not a list of policies")
    policies = [policy_from_json(p, f"{path}[{i}]") for i, p in enumerate(listed)]
    names = [p.name for p in policies]
    if "" in names or FULL["name"] in names or len(set(names)) < len(names):
        raise InputFileError(f"{path}: policies need names that differ, other than 'full': {names}")
    return (*(p.to_json() for p in policies), FULL)


def scans_pictures(target: targets.Target) -> bool:
    """Whether the target's format scans value ranges on pictures. Raises EnvironmentLacksError."""
    return getattr(formats.of(target), "PICTURES", 0) > 0


def export(
    folder: Path, out: Path, target_name: str = "host", options: Mapping[str, Any] | None = None,
    progress: formats.Progress | None = None, name: str | None = None,
    pictures: Sequence[image.PictureSource] = (),
) -> Exported:  # fmt: skip
    """Make and verify the bundle `out` of a model folder. Nothing is left behind on an error.

    `name` of the model; the folder's if it is not given. `pictures` are what a format scans ranges on.
    """
    report = progress or (lambda what, done, total: None)
    target = targets.target(target_name)
    model = models.load(folder)
    family, described = models.family_of(model), models.describe(model)
    wanted = dict(options or {})
    task = str(wanted.get("task", task_of(folder)))
    length = wanted.get("text_length") or None  # 0 is a plan's word for none
    prompt = read_prompt(folder, task, length if isinstance(length, int) else None)
    options = {"task": task} | dict(prompt.options) | wanted
    size = described.preprocess.height, described.preprocess.width
    made = plan.make(model, target, size, options)
    _check_room(folder, prompt, made, described)
    request = plan.cut_request(made, prompt.ids, described, tuple(prompt.answers.values()), prompt.fed)
    report("cutting", 0, 1)
    preprocess = replace(described.preprocess, height=made.height, width=made.width)
    fmt = formats.of(target)
    samples = _samples(pictures, getattr(fmt, "PICTURES", 0), preprocess)
    sources = golden.sources(made.text_length, request.search, described.vocab_size)
    pieces = replace(family.cut(model, request), samples=samples, sources=sources)
    with atomic_folder(out, MANIFEST) as work:
        constants = _write_constants(pieces, work)
        if (folder / "tokenizer.json").is_file():
            (work / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
        manifest = Manifest(
            schema=SCHEMA, name=name or folder.resolve().name,
            family=family.name, task=made.task,
            target=target.name, precision=made.precision,
            runtime=RuntimeVersion(target.runtime, target.versions),
            model=_model_entry(model, folder), plan=made.to_json(), plan_hash=plan_hash(made.to_json()),
            segments={}, constants=constants, files={}, layout=pieces.layout,
            search=request.search, preprocess=preprocess,
            front=read_front(folder), chosen=FULL["name"], prompt=prompt.text,
            answers=tuple(prompt.answers), caption_prompt=prompt.with_caption,
            articles_in=prompt.articles_in, words=prompt.words, knows=prompt.knows,
        )  # fmt: skip
        written = fmt.write(pieces, manifest, work, report)
        runtime = RuntimeVersion(target.runtime, written.versions or target.versions)
        manifest = replace(manifest, segments=written.segments, runtime=runtime)
        report("golden answers", 0, 1)
        reference = TorchRuntime(pieces)
        golden.write(work, *golden.make(manifest.layout, request.search, reference, preprocess, sources))
        _write_sums(fmt, pieces, manifest, work)
        manifest = replace(manifest, files=_files(work))
        write_manifest(work, manifest)
        report("verifying", 0, 1)
        graph_error, verified = _verify(fmt, pieces, manifest, work)
        evidence = _evidence(fmt, made.precision, graph_error, verified)
        evidence = replace(evidence, versions={**evidence.versions, **written.evidence})
        write_manifest(work, replace(manifest, evidence=evidence))
    return Exported(open_bundle(out), graph_error, verified, written.notes, written.summary)


def _check_room(folder: Path, prompt: Prompt, made: plan.Plan, model: Description) -> None:
    """Raises UsageError for a length of source texts that does not fit the model or a statement of a word."""
    if prompt.ids is not None:
        return
    longest, steps = made.text_length, prompt.options["max_length"]
    if made.max_length != steps:
        raise UsageError(
            f"plan: a text of {longest} tokens needs max_length {steps}, not {made.max_length}: leave it out"
        )
    if longest > model.source_length or steps >= model.target_length:
        most = min(model.source_length, model.target_length)
        raise UsageError(
            f"the model has positions for {most} tokens, not for a text of {longest}: --text-length {most}"
        )
    if (folder / "tokenizer.json").is_file():
        words = tokens.load(folder / "tokenizer.json")
        caption = "a" if prompt.with_caption else None
        texts = (source_ids(prompt.template, "a", words, said) for said in (None, caption))
        needed = max(map(len, texts))
        if needed > longest:
            raise UsageError(
                f"a text of {longest} tokens has no room for a statement: with a word it has {needed}; give "
                "a larger --text-length"
            )


def _samples(
    files: Sequence[image.PictureSource], count: int, p: Preprocess
) -> tuple[np.ndarray[Any, Any], ...]:
    """Up to `count` of the pictures, evenly chosen, as the network takes them."""
    chosen = files[:: math.ceil(len(files) / count)] if count and files else ()
    return tuple(image.network_input(p, file) for file in chosen)


def _verify(
    fmt: formats.Format, pieces: Cut, manifest: Manifest, folder: Path
) -> tuple[float | None, Verified | None]:
    """The rungs `graph` and `loop`, if what was written runs here."""
    call = fmt.caller(manifest, folder)
    if call is None:
        return None, None
    graph_error = check_graphs(pieces, call, manifest.preprocess, strict=manifest.precision == "fp32")
    bundle = open_bundle(folder, paranoid=True)
    runtime = targets.open_runtime(bundle)
    try:
        return graph_error, verify(bundle, runtime)
    finally:
        runtime.close()


def _write_sums(fmt: formats.Format, pieces: Cut, manifest: Manifest, folder: Path) -> None:
    """How far int8 is off by exact sums on the first golden picture, for a format that can tell."""
    tell = getattr(fmt, "sums", None)
    if manifest.precision == "int8" and tell is not None:
        p = manifest.preprocess
        shown = pixels(golden.pictures(p.height, p.width, 1)[0], p)
        write_sums(folder / SUMS, tell(pieces, manifest, folder, shown, pieces.sources[0]))


def _write_constants(made: Cut, folder: Path) -> dict[str, Constant]:
    """constants.bin: every constant 64-byte aligned; tables as rows and a shared index."""
    entries: dict[str, Constant] = {}
    written: dict[bytes, str] = {}
    with (folder / CONSTANTS).open("wb") as file:

        def put(name: str, value: np.ndarray[Any, Any], index: str | None = None) -> None:
            file.write(b"\0" * (-file.tell() % 64))
            entries[name] = Constant(CONSTANTS, file.tell(), value.shape, value.dtype.name, index)
            file.write(np.ascontiguousarray(value).tobytes())

        for name, value in made.constants.items():
            put(name, value)
        for name, table in made.tables.items():
            key = table.index.tobytes()
            if key not in written:
                written[key] = f"{name}.index"
                put(written[key], table.index)
            put(name, table.rows, written[key])
    return entries


def _model_entry(model: Any, folder: Path) -> dict[str, Any]:
    return {
        "config": models.config_of(model),
        "sha256": sha256(folder / "model.safetensors"),
        "vocab_size": models.describe(model).vocab_size,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _files(folder: Path) -> dict[str, FileEntry]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {p.relative_to(folder).as_posix(): FileEntry(p.stat().st_size, sha256(p)) for p in paths}


def _evidence(
    fmt: formats.Format, precision: str, graph_error: float | None, loop: Verified | None
) -> Evidence:
    """What was found. fp32 promises equality with the reference; fp16 reaches the rung if its tokens are
    equal in every replay and in 97 % of free runs; int8 promises nothing."""
    versions = {package: metadata.version(package) for package in fmt.PACKAGES}
    versions["system"] = f"{platform.system()} {platform.machine()}"
    if loop is None or graph_error is None:
        return Evidence("build", versions)
    figures = {
        "graph_max_error": graph_error, "golden_logs": loop.logs, "golden_scores": loop.scores,
        "score_max_error": loop.max_score_error, "score_p99_error": loop.p99_score_error,
        "replay_same_tokens": loop.replay_same_tokens, "free_same_tokens": loop.free_same_tokens,
    }  # fmt: skip
    equal = loop.replay_same_tokens == loop.logs and loop.free_same_tokens >= 0.97 * loop.logs
    reached = precision == "fp32" or (precision == "fp16" and equal)
    return Evidence("loop" if reached else "none", versions, {k: float(v) for k, v in figures.items()})
