"""ExecuTorch's own runtime on the bundled model, and what its backends take of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from proofs.bundles import BUNDLES, bundle, cli, lowered
from proofs.covered import CORE, EXECUTORCH, MODEL, SEGMENTS
from proofs.loop import loop
from proofs.pictures import bundled
from proofs.record import ROOT, write


def loop_of(target: str) -> None:
    """Rung `loop` for a target of ExecuTorch's, on 200 pictures."""
    loop(f"executorch-loop-{target}", lowered(target), bundled(200)[0], EXECUTORCH)


def loop_android() -> None:
    loop_of("android")


def loop_embedded_linux() -> None:
    loop_of("embedded-linux")


def int8() -> None:
    """Design 5's criterion (c): int8 against fp32 on 200 pictures, thresholds set on 50 others."""
    from proofs.recalibration import int8_holds, recalibrated

    pictures, names = bundled(250)
    figures: dict[str, Any] = {}
    for precision in ("fp32", "int8"):
        place = lowered("android", precision)
        size = sum(path.stat().st_size for path in (place / "segments").iterdir())
        figures[precision] = recalibrated(place, pictures, names) | {"program_bytes": size}
    figures["holds"] = int8_holds(figures["fp32"], figures["int8"])
    write("executorch-int8", "python tools/evidence.py executorch-int8",
          (*CORE, *EXECUTORCH, *MODEL, "tools/proofs/recalibration.py"), figures)  # fmt: skip


def java() -> None:
    """The Android adapter over a JVM against the host, on 50 pictures under three policies."""
    from mue_edge.bundle import open_bundle
    from mue_edge.image import preprocess
    from proofs.java_adapter import compared

    opened = open_bundle(bundle(1))
    p = opened.manifest.preprocess
    pixels = [preprocess(x, p.height, p.width, mean=p.mean, std=p.std) for x in bundled(50)[0]]
    figures = compared(opened, pixels, ("full", "balanced", "fast"))
    adapter = ("targets/executorch_java.py", "targets/methods.py", "tools/proofs/java_adapter.py")
    write("executorch-java", "python tools/evidence.py executorch-java",
          (*CORE, *SEGMENTS, *MODEL, *adapter), figures)  # fmt: skip


def vulkan() -> None:
    """The bundled model lowered for phones' GPUs: what the backend takes. No GPU runs it here."""
    from mue_edge.apps.stickers import model_folder

    out, report = BUNDLES / "stickers-vulkan", BUNDLES / "stickers-vulkan.json"
    words = ["--target", "android", "--backend", "vulkan", "--out", str(out), "--json"]
    with report.open("w", encoding="utf-8") as file:
        command = [sys.executable, "-m", "mue_edge", "export", str(model_folder()), *words]
        subprocess.run(command, cwd=ROOT, check=True, stdout=file)
    made = json.loads(report.read_text(encoding="utf-8"))
    figures = {
        "program_bytes": made["bytes"]["segments"], "evidence": made["evidence"],
        "segments": made["segments"],
    }  # fmt: skip
    write("executorch-vulkan", "mue-edge export stickers --target android --backend vulkan",
          (*EXECUTORCH, *MODEL), figures)  # fmt: skip


def base() -> None:
    """OFA-base's size with random weights: what lowering and loading cost."""
    import resource
    import time

    from mue_edge.bundle import open_bundle
    from proofs.executorch_loading import loading, peak_mb

    model, out, report = BUNDLES / "ofa-base", BUNDLES / "ofa-base-embedded", BUNDLES / "ofa-base.json"
    cli("import", "--random", "ofa-base", "--mue", "--out", str(model))
    started = time.perf_counter()
    words = ["export", str(model), "--target", "embedded-linux", "--out", str(out), "--json"]
    with report.open("w", encoding="utf-8") as file:
        subprocess.run([sys.executable, "-m", "mue_edge", *words], cwd=ROOT, check=True, stdout=file)
    minutes, peak = (time.perf_counter() - started) / 60, peak_mb(resource.RUSAGE_CHILDREN)
    made, manifest = json.loads(report.read_text(encoding="utf-8")), open_bundle(out).manifest
    figures = {
        "plan": dict(manifest.plan), "parameters": manifest.model["parameters"],
        "methods": len(manifest.segments), "program_bytes": made["bytes"]["segments"],
        "weight_bytes": sum(segment.weight_bytes for segment in manifest.segments.values()),
        "delegates": {name: note["delegates"] for name, note in made["segments"].items()},
        "host": {name: note["host"] for name, note in made["segments"].items() if note["host"]},
        "evidence": made["evidence"], "export_minutes": minutes, "export_peak_mb": peak,
        "loading": loading(out),
    }  # fmt: skip
    write(
        "executorch-base",
        "python tools/evidence.py executorch-base",
        (*EXECUTORCH, "tools/proofs/executorch_loading.py"),
        figures,
    )
