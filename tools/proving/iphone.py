"""Core ML packages on a machine without Core ML.

The bundled model is exported in each precision and run by the evaluator, against the torch model; of
OFA-base's shape, with random weights, one export says what sizes and conversion are like.
"""

from __future__ import annotations

import hashlib
import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mue_edge import models, targets
from mue_edge.apps.stickers import model_folder
from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.export.build import export
from mue_edge.export.coreml.format import by_package
from mue_edge.export.golden import median_policy
from mue_edge.export.prompts import read_prompt
from mue_edge.inputs import image
from mue_edge.loop.policy import Policy
from mue_edge.targets.coreml.packages import MODEL
from mue_edge.targets.mil import blob
from mue_edge.targets.mil.program import read
from proving.bundles import BUNDLES, cli
from proving.recalibration import EVERY, int8_holds, recalibrated
from tools.verification.loop import AtBoundaries, prove, reference_log

Tick = Callable[[int], None]


def by_precision(pictures: Sequence[Any], names: Sequence[str], tick: Tick = lambda done: None) -> dict[str, Any]:
    """Precision → sizes and graph error; for fp32 and fp16 the loop's criteria, for int8 and fp32 what their
    captions are worth. A fifth of the pictures sets thresholds, the others are compared."""
    model, prompt = models.load(model_folder()), read_prompt(model_folder(), "caption").ids
    found: dict[str, Any] = {}
    for precision in ("fp32", "fp16", "int8"):
        out = BUNDLES / f"stickers-iphone-{precision}"
        made = export(model_folder(), out, "iphone", {"precision": precision}, name="stickers")
        found[precision] = {"graph_max_error": made.graph_error, "packages": packages(made.bundle)}
        if precision != "int8":
            found[precision]["loop"] = looped(made.bundle, model, prompt, pictures, tick)
        if precision != "fp16":
            found[precision]["recalibrated"] = recalibrated(out, pictures, names)
    size = {p: sum(x["bytes"] for x in f["packages"].values()) for p, f in found.items()}
    return found | {
        "int8_of_fp32_bytes": size["int8"] / size["fp32"],
        "int8_holds": int8_holds(found["fp32"]["recalibrated"], found["int8"]["recalibrated"]),
    }


def looped(bundle: Bundle, model: Any, prompt: tuple[int, ...], pictures: Sequence[Any], tick: Tick) -> dict[str, Any]:
    """Criteria (a) and (b), at full depth and with exits."""
    manifest, found = bundle.manifest, {}
    p, layout = manifest.preprocess, manifest.layout
    pixels = [image.preprocess(x, p.height, p.width, mean=p.mean, std=p.std) for x in pictures]
    full = AtBoundaries(Policy("never"), layout)
    logs = [reference_log(model, prompt, x, manifest.search, full) for x in pixels[::EVERY]]
    compared = [x for i, x in enumerate(pixels) if i % EVERY]
    runtime = targets.open_runtime(bundle, 1)
    for policy in (Policy("never", name="full"), median_policy(logs)):
        proof = prove(bundle, runtime, model, prompt, compared, policy, tick)
        found[policy.name] = asdict(proof) | {"holds": proof.holds(manifest.precision)}
    runtime.close()
    return found


def packages(bundle: Bundle) -> dict[str, Any]:
    """Package → its bytes, those of its weight file and of its distinct weights, its functions."""
    found = {}
    for package in by_package(bundle.manifest.segments):
        folder = bundle.path / package
        program = read(folder)
        distinct: dict[bytes, int] = {}
        for function in program.functions.values():
            for value in (value for op in function.operations for value in op.stored()):
                assert isinstance(value.data, blob.Blob)
                data = blob.read(program.folder, value.data, value.kind.dtype, value.kind.sizes).tobytes()
                distinct[hashlib.sha256(data).digest()] = len(data)
        found[Path(package).name] = {
            "bytes": sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()),
            "weight_file": (folder / MODEL).parent.joinpath("weights", "weight.bin").stat().st_size,
            "distinct_weights": sum(distinct.values()),
            "functions": len(program.functions),
            "separate_weights": sum(
                s.weight_bytes for s in bundle.manifest.segments.values() if s.file == f"{package}/{MODEL}"
            ),
        }
    return found


def exported(model: Path) -> dict[str, Any]:
    """An export as a user calls it: sizes, seconds, peak memory. Captions are cut at four words."""
    out, plan = BUNDLES / "ofa-base-iphone", BUNDLES / "short.json"
    plan.write_text(json.dumps({"max_length": 4}), encoding="utf-8")
    begun = time.perf_counter()
    cli(
        "export",
        str(model),
        "--target",
        "iphone",
        "--precision",
        "fp16",
        "--plan",
        str(plan),
        "--out",
        str(out),
        "--json",
    )
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    bundle = open_bundle(out)
    return {
        "parameters": bundle.manifest.model["parameters"], "precision": "fp16",
        "height": bundle.manifest.preprocess.height, "packages": packages(bundle),
        "export_seconds": seconds, "peak_bytes": peak, "evidence": dict(bundle.manifest.evidence.figures),
    }  # fmt: skip
