"""Model folder → bundle: cut, convert, verify, write, all or nothing."""

from __future__ import annotations

import math
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mue_edge import models, targets
from mue_edge.bundle.folder import Bundle, checked_manifest, open_bundle, write_manifest
from mue_edge.bundle.manifest import (
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
from mue_edge.export.progress import TOTAL, Progress, phases, steps
from mue_edge.export.prompts import Prompt, read_prompt, task_of
from mue_edge.export.reference import TorchRuntime, check_graphs, encoding_once
from mue_edge.files import atomic_folder, sha256
from mue_edge.inputs import image, tokens
from mue_edge.inputs.statements import source_ids
from mue_edge.measuring.bench import SegmentCost, SegmentCosts
from mue_edge.models.cut import Cut
from mue_edge.models.family import Description
from mue_edge.reading import read_json
from mue_edge.targets.golden import SUMS, pixels, write_sums
from mue_edge.targets.verify import Verified, verify

CONSTANTS = "constants.bin"

FULL = {"rule": "never", "name": "full"}
# What a golden answer takes of a whole caption, if its picture's states are known already.
GOLDEN_AGAIN = 0.3


@dataclass(frozen=True)
class Exported:
    """What was made: the bundle, and what verification found; None where this machine cannot run it.
    notes: what the format says of single segments; summary: its lines for the report; costs: kind of segment
    → its part of a golden caption at full depth, where this machine runs it."""

    bundle: Bundle
    graph_error: float | None
    loop: Verified | None
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    summary: tuple[str, ...] = ()
    costs: Mapping[str, SegmentCost] = field(default_factory=dict)


def read_policies(folder: Path) -> tuple[dict[str, Any], ...]:
    """The model's own policies (policies.json, from fastest to slowest, if there is one), then full depth.
    They hold for every plan: scores do not depend on how layers are grouped. Raises InputFileError for a file
    that does not fit."""
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
    folder: Path,
    out: Path,
    target_name: str = "host",
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    name: str | None = None,
    pictures: Sequence[image.PictureSource] = (),
) -> Exported:
    """Make and verify the bundle `out` of a model folder; on an error nothing of it stays. name: of the
    model, by default the folder's. pictures: what a format scans ranges on."""
    report = progress or (lambda what, done, total: None)
    target = targets.target(target_name)
    report("cutting", 0, 1)
    model = models.load(folder)
    family, description = models.family_of(model), models.describe(model)
    wanted = dict(options or {})
    task = str(wanted.get("task", task_of(folder)))
    length = wanted.get("text_length") or None  # 0 is a plan's word for none
    prompt = read_prompt(folder, task, length if isinstance(length, int) else None)
    size = description.preprocess.height, description.preprocess.width
    compiled = plan.make(model, target, size, {"task": task} | dict(prompt.options) | wanted)
    _check_text_length(folder, prompt, compiled, description)
    answers = tuple(prompt.answers.values())
    request = plan.cut_request(compiled, prompt.ids, description, answers, prompt.fed)
    preprocess = replace(description.preprocess, height=compiled.height, width=compiled.width)
    fmt = formats.of(target)
    samples = _samples(pictures, getattr(fmt, "PICTURES", 0), preprocess)
    entry = _model_entry(model, folder)
    tells = phases(report, _work(entry["parameters"]))
    sources = golden.sources(compiled.text_length, request.search, description.vocab_size)
    pieces = replace(family.cut(model, request), samples=samples, sources=sources)
    with atomic_folder(out, MANIFEST) as work:
        constants = _write_constants(pieces, work)
        if (folder / "tokenizer.json").is_file():
            shutil.copyfile(folder / "tokenizer.json", work / "tokenizer.json")
        manifest = Manifest(
            schema=SCHEMA,
            name=name or folder.resolve().name,
            family=family.name,
            task=compiled.task,
            target=target.name,
            precision=compiled.precision,
            runtime=RuntimeVersion(target.runtime, target.versions),
            model=entry,
            plan=compiled.to_json(),
            plan_hash=plan_hash(compiled.to_json()),
            segments={},
            constants=constants,
            files={},
            layout=pieces.layout,
            search=request.search,
            preprocess=preprocess,
            front=read_policies(folder),
            chosen=FULL["name"],
            prompt=prompt.text,
            answers=tuple(prompt.answers),
            caption_prompt=prompt.with_caption,
            **{field: getattr(prompt, field) for field in ("articles_in", "words", "knows")},
        )
        written = fmt.write(pieces, manifest, work, tells["converting"])
        runtime = RuntimeVersion(target.runtime, written.versions or target.versions)
        manifest = replace(manifest, segments=written.segments, fused=written.fused, runtime=runtime)
        step = steps(tells["golden answers"], "golden answers", [1.0] * golden.COUNT + [GOLDEN_AGAIN] * golden.COUNT)
        golden.write(work, manifest, TorchRuntime(pieces, encoding_once(pieces)), sources, step)
        _write_sums(fmt, pieces, manifest, work)
        manifest = replace(manifest, files=_files(work))
        write_manifest(work, manifest)
        graph_error = _check_graphs(fmt, pieces, manifest, work, tells["checking segments"])
        del model, pieces  # the loop's runtime needs the memory
        verified, costs = None, SegmentCosts()
        if graph_error is not None:
            step = steps(tells["verifying"], "verifying", [2.0] * golden.COUNT + [1.0] * golden.COUNT)
            verified = _verify(work, costs, step)
        evidence = _evidence(fmt, compiled.precision, graph_error, verified)
        evidence = replace(evidence, versions={**evidence.versions, **written.evidence})
        write_manifest(work, replace(manifest, evidence=evidence))
    report("", TOTAL, TOTAL)
    return Exported(open_bundle(out), graph_error, verified, written.notes, written.summary, costs.medians())


def _work(parameters: int) -> dict[str, float]:
    """Phase → about how many seconds of CPU it takes: tracing much the same for all models, captions by size."""
    caption, count = 1.5e-8 * parameters, golden.COUNT
    golden_answers, verifying = (1 + GOLDEN_AGAIN) * count * caption, 3 * count * caption
    return {
        "converting": 8 + 2 * caption,
        "golden answers": golden_answers,
        "checking segments": 2 * caption,
        "verifying": verifying,
    }


def _check_text_length(folder: Path, prompt: Prompt, compiled: plan.Plan, model: Description) -> None:
    """Raises UsageError for a length of source texts that does not fit the model or a statement of a word."""
    if prompt.ids is not None:
        return
    longest, steps = compiled.text_length, prompt.options["max_length"]
    if compiled.max_length != steps:
        raise UsageError(
            f"plan: a text of {longest} tokens needs max_length {steps}, not {compiled.max_length}: leave it out"
        )
    if longest > model.source_length or steps >= model.target_length:
        most = min(model.source_length, model.target_length)
        raise UsageError(
            f"the model has positions for {most} tokens, not for a text of {longest}: --text-length {most}"
        )
    if (folder / "tokenizer.json").is_file():
        words = tokens.load(folder / "tokenizer.json")
        captions = (None, "a" if prompt.with_caption else None)
        needed = max(len(source_ids(prompt.template, "a", words, caption)) for caption in captions)
        if needed > longest:
            raise UsageError(
                f"a text of {longest} tokens has no room for a statement: with a word it has {needed}; give "
                "a larger --text-length"
            )


def _samples(files: Sequence[image.PictureSource], count: int, p: Preprocess) -> tuple[np.ndarray[Any, Any], ...]:
    """Up to `count` of the pictures, evenly chosen, as the network takes them."""
    chosen = files[:: math.ceil(len(files) / count)] if count and files else ()
    return tuple(image.network_input(p, file) for file in chosen)


def _check_graphs(
    fmt: formats.Format, pieces: Cut, manifest: Manifest, folder: Path, progress: Progress
) -> float | None:
    """The verification level `graph`, if what was written runs here."""
    call = fmt.caller(manifest, folder)
    if call is None:
        return None
    step = steps(progress, "checking segments", [manifest.segments[piece.name].macs for piece in pieces.pieces])
    return check_graphs(pieces, call, manifest.preprocess, strict=manifest.precision == "fp32", step=step)


def _verify(folder: Path, costs: SegmentCosts, step: Callable[[], object]) -> Verified:
    """The verification level `loop`. The files were hashed a moment ago."""
    bundle = Bundle(folder, checked_manifest(folder))
    with closing(targets.open_runtime(bundle)) as runtime:
        return verify(bundle, runtime, costs.begin, step)


def _write_sums(fmt: formats.Format, pieces: Cut, manifest: Manifest, folder: Path) -> None:
    """How far int8 is off by exact sums on the first golden picture, for a format that can tell."""
    if manifest.precision == "int8" and hasattr(fmt, "sums"):
        p = manifest.preprocess
        picture = pixels(golden.pictures(p.height, p.width, 1)[0], p)
        write_sums(folder / SUMS, fmt.sums(pieces, manifest, folder, picture, pieces.sources[0]))


def _write_constants(cut: Cut, folder: Path) -> dict[str, Constant]:
    """constants.bin: every constant 64-byte aligned; tables as rows and a shared index."""
    entries: dict[str, Constant] = {}
    indices: dict[bytes, str] = {}
    with (folder / CONSTANTS).open("wb") as file:

        def put(name: str, value: np.ndarray[Any, Any], index: str | None = None) -> None:
            file.write(b"\0" * (-file.tell() % 64))
            entries[name] = Constant(CONSTANTS, file.tell(), value.shape, value.dtype.name, index)
            file.write(np.ascontiguousarray(value).tobytes())

        for name, value in cut.constants.items():
            put(name, value)
        for name, table in cut.tables.items():
            key = table.index.tobytes()
            if key not in indices:
                indices[key] = f"{name}.index"
                put(indices[key], table.index)
            put(name, table.rows, indices[key])
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


# Figure of the evidence → field of `Verified`.
FIGURES = {
    **{"golden_logs": "logs", "golden_scores": "scores"},
    **{"score_max_error": "max_score_error", "score_p99_error": "p99_score_error"},
    **{name: name for name in ("replay_same_tokens", "free_same_tokens")},
}


def _evidence(fmt: formats.Format, precision: str, graph_error: float | None, loop: Verified | None) -> Evidence:
    """What verification found. fp32 promises equality with the reference; fp16 reaches the level `loop` if
    its tokens are equal in every replay and in 97 % of free runs; int8 promises nothing."""
    versions = {package: metadata.version(package) for package in fmt.PACKAGES}
    versions["system"] = f"{platform.system()} {platform.machine()}"
    if loop is None or graph_error is None:
        return Evidence("build", versions)
    figures = {name: float(getattr(loop, field)) for name, field in FIGURES.items()}
    equal = loop.replay_same_tokens == loop.logs and loop.free_same_tokens >= 0.97 * loop.logs
    reached = precision == "fp32" or (precision == "fp16" and equal)
    return Evidence("loop" if reached else "none", versions, {"graph_max_error": graph_error, **figures})
