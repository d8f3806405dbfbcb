"""Core ML packages on a machine without Core ML: `python tools/evidence.py iphone iphone-ofa-base`.

The bundled model is exported in each precision and run by the evaluator on pictures that were used for
choices only (val_render), against the torch model; of OFA-base's shape, with random weights, one export says
what sizes and conversion are like.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mue_edge import image, models, targets
from mue_edge.apps.stickers import model_folder
from mue_edge.bundle import Bundle, open_bundle
from mue_edge.calibrate.cider import frequencies, score_all
from mue_edge.captioner import Captioner
from mue_edge.export.build import export, read_prompt
from mue_edge.export.coreml import by_package
from mue_edge.export.golden import median_policy
from mue_edge.export.prove import prove, reference_log
from mue_edge.policy import Policy
from mue_edge.replay import exit_tests, quantile_policy, run
from mue_edge.targets.coreml import MODEL
from mue_edge.targets.mil import blob
from mue_edge.targets.mil.program import read

ROOT = Path(__file__).resolve().parent.parent
VAL = ROOT / "apps" / "stickers" / "pictures" / "val_render"
PICTURES, TRACED = 100, 30
Tick = Callable[[int], None]


def stickers(bundles: Path, tick: Tick = lambda done: None) -> dict[str, Any]:
    """Precision → sizes, graph error, the loop's criteria; for int8 what its captions are worth."""
    rows = [json.loads(line) for line in (VAL / "captions.jsonl").read_text(encoding="utf-8").splitlines()]
    chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, PICTURES).round().astype(int)]
    references = [row["references"] for row in chosen]
    known = frequencies([row["references"] for row in rows])
    model, prompt = models.load(model_folder()), read_prompt(model_folder(), "caption").ids
    found: dict[str, Any] = {}
    for precision in ("fp32", "fp16", "int8"):
        out = bundles / f"stickers-iphone-{precision}"
        made = export(model_folder(), out, "iphone", {"precision": precision}, name="stickers")
        bundle, p = made.bundle, made.bundle.manifest.preprocess
        pixels = [
            image.preprocess(_picture(row), p.height, p.width, mean=p.mean, std=p.std) for row in chosen
        ]
        logs = [
            reference_log(model, prompt, x, bundle.manifest.search, Policy("never")) for x in pixels[:TRACED]
        ]
        with Captioner(bundle, targets.open_runtime(bundle, 1)) as captioner:
            loop = {}
            for policy in (Policy("never", name="full"), median_policy(logs)):
                proof = prove(bundle, captioner.runtime, model, prompt, pixels, policy, tick)
                loop[policy.name] = asdict(proof) | {"holds": proof.holds(precision)}
            found[precision] = {
                "graph_max_error": made.graph_error, "packages": packages(bundle), "loop": loop,
                "recalibrated": recalibrated(captioner, pixels, references, known),
            }  # fmt: skip
    return found


def recalibrated(
    captioner: Captioner, pixels: Sequence[Any], references: Sequence[Sequence[str]], known: Any
) -> dict[str, Any]:
    """CIDEr-D and layers under thresholds that half of the bundle's own exit tests would pass."""
    settings, runtime = captioner.settings(), captioner.runtime
    tests = []
    for picture in pixels[:TRACED]:
        runtime.set_pixels(picture)
        traced = run(captioner.layout, settings, Policy("never"), runtime, trace=True)
        tests += exit_tests(traced.decisions)
    policy = quantile_policy(tests, 0.5, "median")
    captions, layers = [], []
    for picture in pixels:
        runtime.set_pixels(picture)
        outcome = run(captioner.layout, settings, policy, runtime)
        captions.append(captioner.tokenizer.caption(outcome.hypotheses[0].tokens).strip())
        layers += [step.depth for step in outcome.steps]
    scores = score_all(captions, references, known)
    return {"cider_d": float(np.mean(scores)), "mean_layers": float(np.mean(layers))}


def packages(bundle: Bundle) -> dict[str, Any]:
    """Package → its bytes, those of its weight file and of its distinct weights, its functions."""
    found = {}
    for package in by_package(bundle.manifest.segments):
        folder = bundle.path / package
        program = read(folder)
        distinct: dict[bytes, int] = {}
        for function in program.functions.values():
            for op in function.block.operations:
                for value in op.attributes.values():
                    if isinstance(value.data, blob.Blob):
                        shape = tuple(size or 0 for size in value.kind.shape)
                        data = blob.read(program.folder, value.data, value.kind.dtype, shape).tobytes()
                        distinct[hashlib.sha256(data).digest()] = len(data)
        found[Path(package).name] = {
            "bytes": sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()),
            "weight_file": (folder / MODEL).parent.joinpath("weights", "weight.bin").stat().st_size,
            "distinct_weights": sum(distinct.values()), "functions": len(program.functions),
            "separate_weights": sum(
                s.weight_bytes for s in bundle.manifest.segments.values() if s.file == f"{package}/{MODEL}"
            ),
        }  # fmt: skip
    return found


def ofa_base(model: Path, bundles: Path) -> dict[str, Any]:
    """An export as a user calls it: sizes, seconds, peak memory. Captions are cut at four words."""
    out, plan = bundles / "ofa-base-iphone", bundles / "short.json"
    plan.write_text(json.dumps({"max_length": 4}), encoding="utf-8")
    begun = time.perf_counter()
    _cli("export", str(model), "--target", "iphone", "--precision", "fp16", "--plan", str(plan),
         "--out", str(out), "--json")  # fmt: skip
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    bundle = open_bundle(out)
    return {
        "parameters": bundle.manifest.model["parameters"], "precision": "fp16",
        "height": bundle.manifest.preprocess.height, "packages": packages(bundle),
        "export_seconds": seconds, "peak_bytes": peak, "evidence": dict(bundle.manifest.evidence.figures),
    }  # fmt: skip


def _picture(row: dict[str, Any]) -> Image.Image:
    rgba = Image.open(VAL / row["image"]).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _cli(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "mue_edge", *words], cwd=ROOT, check=True)
