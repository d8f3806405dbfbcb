"""What the ExecuTorch jobs of evidence.py measure: int8 against fp32, and what loading a program costs.

Run as a script, it prints how one process loads: `python tools/executorch_proof.py BUNDLE lazily|eagerly`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# A fifth of the pictures sets the thresholds, the others are compared.
EVERY = 5


def recalibrated(bundle: Path, pictures: Sequence[Any], names: Sequence[str]) -> dict[str, float]:
    """Captions under the median policy of the bundle's own scores: mean layers, CIDEr-D, exact match."""
    from mue_edge import targets
    from mue_edge.apps.stickers import shipped
    from mue_edge.calibrate.cider import frequencies, score_all
    from mue_edge.export.golden import median_policy
    from mue_edge.policy import Policy
    from mue_edge.replay import log_of, run

    image, decoder, captions, wanted = [], [], [], []
    with targets.open(bundle, threads=1) as captioner:
        layout, settings, runtime = captioner.layout, captioner.settings(), captioner.runtime
        logs = []
        for picture in pictures[::EVERY]:
            runtime.set_pixels(captioner.pixels(picture))
            logs.append(log_of(run(layout, settings, Policy("never"), runtime, trace=True)))
        policy = median_policy(logs)
        for i, (picture, name) in enumerate(zip(pictures, names, strict=True)):
            if i % EVERY:
                runtime.set_pixels(captioner.pixels(picture))
                outcome = run(layout, settings, policy, runtime)
                image.append(outcome.depths["image"])
                decoder += [step.depth for step in outcome.steps]
                captions.append(captioner.tokenizer.caption(outcome.hypotheses[0].tokens).strip())
                wanted.append([name])
    cider = score_all(captions, wanted, frequencies([text] for text in shipped.train_captions()))
    return {
        "pictures": len(captions), "theta_image": policy.theta_image, "theta_decoder": policy.theta_decoder,
        "image_layers": sum(image) / len(image), "decoder_layers": sum(decoder) / len(decoder),
        "cider_d": sum(cider) / len(cider),
        "exact_match": sum(a == b[0] for a, b in zip(captions, wanted)) / len(captions),
    }  # fmt: skip


def int8_holds(fp32: dict[str, float], int8: dict[str, float]) -> bool:
    """Criterion (c): CIDEr-D within 1 % of fp32's and mean layers within 5 %, after recalibration."""
    layers = all(abs(int8[k] / fp32[k] - 1) <= 0.05 for k in ("image_layers", "decoder_layers"))
    return layers and abs(int8["cider_d"] / fp32["cider_d"] - 1) <= 0.01


def loading(bundle: Path) -> dict[str, dict[str, float]]:
    """Seconds and megabytes of a process that opens the bundle, with methods on demand and all at once."""
    found = {}
    for how in ("lazily", "eagerly"):
        command = [sys.executable, __file__, str(bundle), how]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        found[how] = json.loads(done.stdout)
    return found


def peak_mb(who: int = resource.RUSAGE_SELF) -> float:
    """Most memory that was resident at once (Linux counts in KiB)."""
    return resource.getrusage(who).ru_maxrss / 1024


def measure(place: Path, how: str) -> dict[str, float]:
    """Lazily: what a caption that leaves after the first layers needs. Eagerly: every method."""
    from mue_edge import bundle
    from mue_edge.policy import Policy
    from mue_edge.replay import run
    from mue_edge.targets import executorch, golden, methods

    executorch._packages()  # importing torch is no part of loading
    before = peak_mb()
    opened = bundle.open_bundle(place)
    started = time.perf_counter()
    manifest = opened.manifest
    program = executorch.Program(methods.program_file(opened), manifest.segments, 1)
    opening = time.perf_counter() - started
    if how == "eagerly":
        for segment in manifest.segments:
            program._load(segment)
        loaded = time.perf_counter() - started
    else:
        shown, _ = golden.read(opened)
        runtime = methods.MethodsRuntime(opened, program)
        runtime.set_pixels(golden.pixels(shown[0], manifest.preprocess))
        early = Policy("fixed", depth_image=1, depth_text=1, depth_decoder=1)
        run(manifest.loop_layout(), manifest.search, early, runtime)
        loaded = time.perf_counter() - started
    return {
        "open_seconds": opening, "ready_seconds": loaded, "methods": len(program._loaded),
        "mb_before": before, "peak_mb": peak_mb(),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2])))
