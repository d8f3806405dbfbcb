"""Figures for the Jetson pages: what can be proved of it on a plain machine. See evidence.py for the jobs."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# ONNX Runtime runs the bundle here, also where a TensorRT is installed.
os.environ["MUE_EDGE_JETSON"] = "onnxruntime"


def exported(model: str, out: Path, *options: str) -> dict[str, Any]:
    """The report of `mue-edge export --target jetson`, its seconds and the most memory that it had
    (bytes)."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "mue_edge", "export", model, "--target", "jetson", "--out", str(out)]
    ran = subprocess.run([*command, *options, "--json"], cwd=ROOT, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    report: dict[str, Any] = json.loads(ran.stdout)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {
        "seconds": round(seconds, 1), "peak_bytes": peak, "bytes": report["bytes"],
        "full_depth": {k: report["full_depth"][k] for k in ("steps", "calls")},
        "summary": report["summary"], "evidence": report["evidence"],
    }  # fmt: skip


def gated(folder: Path) -> dict[str, Any]:
    """Every profile and precision: how many segments passed all gates, and what the proxy says of them.

    The model is traced and scanned once. Any refusal raises.
    """
    import tempfile

    from mue_edge import models, targets
    from mue_edge.bundle import Preprocess
    from mue_edge.export import gates, golden, jetpack, onnx, plan, rtx
    from mue_edge.export.build import read_prompt
    from mue_edge.export.ranges import Graph, scan
    from mue_edge.export.tensorrt import typed
    from mue_edge.loop import Layout, Stage
    from mue_edge.models.cut import cut
    from mue_edge.targets.golden import pixels

    model = models.load(folder)
    c = model.config
    prompt = read_prompt(folder, "caption")
    made = plan.make(model, targets.target("jetson"), (c.image_size, c.image_size), prompt.options)
    request = plan.cut_request(made, prompt.ids, {name: getattr(c, name) for name in ("bos", "pad", "eos")})
    pieces = cut(model, request)
    exporter = onnx.Exporter()
    graphs = [Graph(piece, exporter.graph(piece)) for piece in pieces.pieces]
    entry = pieces.layout
    stages = {k: tuple(Stage(e.name, e.depth, e.constants) for e in v) for k, v in entry.encoder.items()}
    decoder = tuple(Stage(e.name, e.depth, e.constants) for e in entry.decoder)
    layout = Layout(stages, decoder, entry.rows, entry.fill_rows, entry.prompt_gaps)
    shown = golden.pictures(made.height, made.width, 2)
    ranges = scan(
        pieces, graphs, layout, request.search,
        [pixels(picture, Preprocess(made.height, made.width)) for picture in shown],
    )  # fmt: skip
    found: dict[str, Any] = {}
    for name in jetpack.names():
        profile = jetpack.profile(name)
        for precision in ("fp32", "fp16", "int8"):
            ready, _ = typed(graphs, precision, profile, ranges)
            for graph in ready:
                gates.check(graph.model, graph.piece.name, profile)
            said = {"segments": len(ready), "opset": profile.opset, "gates": "pass"}
            if profile.typed and name == jetpack.names()[0]:
                with tempfile.TemporaryDirectory() as work:
                    entries = onnx.write_segments([(g.piece, g.model) for g in ready], Path(work))
                    begin = time.perf_counter()
                    built = rtx.build({n: Path(work) / e.file for n, e in entries.items()})
                said["proxy"] = f"{len(built)} built ({rtx.label()})"
                said["proxy_seconds"] = round(time.perf_counter() - begin, 1)
                said["plan_bytes"] = sum(b.bytes for b in built.values())
            found[f"{name} {precision}"] = said
            print(name, precision, said, flush=True)
    return found
