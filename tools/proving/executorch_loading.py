"""What loading a program of ExecuTorch's costs, for the proof `executorch-base`.

`python -m proving.executorch_loading BUNDLE lazily|eagerly` prints how one process loads.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def loading(bundle: Path) -> dict[str, dict[str, float]]:
    """Seconds and megabytes of a process that opens the bundle, with methods on demand and all at once."""
    found = {}
    for how in ("lazily", "eagerly"):
        command = [sys.executable, "-m", "proving.executorch_loading", str(bundle), how]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        found[how] = json.loads(done.stdout)
    return found


def peak_mb(who: int = resource.RUSAGE_SELF) -> float:
    """Most memory that was resident at once (Linux counts in KiB)."""
    return resource.getrusage(who).ru_maxrss / 1024


EARLY = ("stem", "image.0", "embed", "cross_kv.0", "decoder.0", "head")


def measure(place: Path, how: str) -> dict[str, float]:
    """Lazily: the methods of a caption that leaves after the first layers. Eagerly: every method. Then such a
    caption is run."""
    import torch  # noqa: F401  importing it is no part of loading
    from executorch.runtime import Runtime

    from mue_edge.bundle.folder import open_bundle
    from mue_edge.loop.policy import Policy, StackExit
    from mue_edge.loop.replay import run
    from mue_edge.targets import golden
    from mue_edge.targets.executorch import methods
    from mue_edge.targets.executorch import python as executorch

    Runtime.get()
    before = peak_mb()
    opened = open_bundle(place)
    manifest = opened.manifest
    started = time.perf_counter()
    program = executorch.ExecuTorchProgram(methods.program_file(opened), manifest.segments, 1)
    chosen = EARLY if how == "lazily" else tuple(manifest.segments)
    for segment in chosen:
        program.load(segment)
    loaded, peak = time.perf_counter() - started, peak_mb()
    shown, _ = golden.read(opened)
    runtime = methods.MethodsRuntime(opened, program)
    runtime.set_pixels(golden.pixels(shown[0], manifest.preprocess))
    early = Policy("fixed", {"image": StackExit(depth=1), "text": StackExit(depth=1), "decoder": StackExit(depth=1)})
    run(manifest.layout, manifest.search, early, runtime)
    return {
        "load_seconds": loaded,
        "methods": len(chosen),
        "mb_before": before,
        "loaded_mb": peak,
        "captioned_mb": peak_mb(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2])))
