"""Figures for the Jetson pages: what can be proved of it on a plain machine."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mue_edge import machine
from proving import ROOT

# ONNX Runtime runs the bundle here, also where a TensorRT is installed.
os.environ["MUE_EDGE_JETSON"] = "onnxruntime"


def exported(model: str, out: Path, *options: str) -> dict[str, Any]:
    """The report of `mue-edge export --target jetson`, its seconds and the most memory that it had
    (bytes).

    On a machine that others use too, processor time says more than the clock: both are kept, with the load.
    """
    begin, spent = time.perf_counter(), _child_seconds()
    command = [sys.executable, "-m", "mue_edge", "export", model, "--target", "jetson", "--out", str(out)]
    ran = subprocess.run([*command, *options, "--json"], cwd=ROOT, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    report: dict[str, Any] = json.loads(ran.stdout)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(_child_seconds() - spent, 1),
        "load": machine.load_average(),
        "peak_bytes": peak,
        "bytes": report["bytes"],
        "full_depth": {k: report["full_depth"][k] for k in ("steps", "calls")},
        "summary": report["summary"],
        "evidence": report["evidence"],
    }


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def gated(folder: Path) -> dict[str, Any]:
    """Every profile and precision: how many segments passed all gates, and what the proxy says of them.

    The model is traced and scanned once. Any refusal raises.
    """
    import tempfile

    from mue_edge import models, targets
    from mue_edge.export import golden, plan
    from mue_edge.export.onnx import format as onnx
    from mue_edge.export.prompts import read_prompt
    from mue_edge.export.ranges import scan
    from mue_edge.export.tensorrt import gates, jetpack, rtx
    from mue_edge.export.tensorrt.format import typed
    from mue_edge.targets.golden import pixels

    model = models.load(folder)
    described = models.describe(model)
    size = described.preprocess.height, described.preprocess.width
    prompt = read_prompt(folder, "caption")
    planned = plan.make(model, targets.target("jetson"), size, prompt.options)
    request = plan.cut_request(planned, prompt.ids, described)
    pieces = models.family_of(model).cut(model, request)
    graphs = onnx.Exporter().graphs(pieces, lambda what, done, total: None)
    shown = golden.pictures(planned.height, planned.width, 2)
    ranges = scan(
        pieces, graphs, pieces.layout, request.search, [pixels(picture, described.preprocess) for picture in shown]
    )
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
                    entries = onnx.write_segments(ready, Path(work))
                    begin = time.perf_counter()
                    built = rtx.build({n: Path(work) / e.file for n, e in entries.items()})
                said["proxy"] = f"{len(built)} built ({rtx.label()})"
                said["proxy_seconds"] = round(time.perf_counter() - begin, 1)
                said["plan_bytes"] = sum(b["bytes"] for b in built.values())
            found[f"{name} {precision}"] = said
            print(name, precision, said, flush=True)
    return found


def made(out: Path, precision: str) -> Path:
    """The bundled model's bundle for JetPack 6, ranges from its tuning pictures."""
    from mue_edge.apps.cli.catalogue import range_pictures
    from mue_edge.apps.stickers import model_folder
    from mue_edge.export.build import export

    shown = range_pictures("stickers")
    export(model_folder(), out, "jetson", {"precision": precision}, name="stickers", pictures=shown)
    return out


def shown(count: int, bundle: Any) -> tuple[list[Any], list[Any]]:
    """`count` certification pictures of the bundled model, evenly chosen: what the network takes, and
    entries."""
    import numpy as np
    from PIL import Image

    from mue_edge.inputs.image import preprocess
    from tools.stickers import shipped

    split = shipped.load("cal_render")
    chosen = np.linspace(0, len(split.entries) - 1, count).round().astype(int)
    p = bundle.manifest.preprocess
    pixels = [preprocess(Image.fromarray(split.pixels[i]), p.height, p.width, mean=p.mean, std=p.std) for i in chosen]
    return pixels, [split.entries[i] for i in chosen]


def adapted(folder: Path, count: int) -> dict[str, Any]:
    """Captions of the adapter over stand-ins, look-ahead on and off, that equal the host target's."""
    import tempfile

    from mue_edge.bundle.folder import open_bundle
    from mue_edge.loop.policy import Policy
    from mue_edge.loop.replay import run
    from mue_edge.targets.host import HostRuntime
    from mue_edge.targets.trt.engines import build
    from mue_edge.targets.trt.runtime import TensorRTRuntime
    from tests.targets.trt.fake_cuda import FakeCuda
    from tests.targets.trt.fake_tensorrt import FakeTensorRT

    bundle = open_bundle(folder)
    layout, settings = bundle.manifest.layout, bundle.manifest.search
    policies = bundle.manifest.policies()
    chosen: dict[str, Policy] = {name: policies[name] for name in ("full", "balanced")}
    pixels, _ = shown(count, bundle)
    cuda = FakeCuda()
    found: dict[str, Any] = {
        name: {"pictures": count, "look_ahead_equal": 0, "one_by_one_equal": 0, "calls": 0} for name in chosen
    }
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        sys.modules["tensorrt"] = FakeTensorRT(cuda)  # type: ignore[assignment]
        sys.modules["cuda.bindings.runtime"] = cuda  # type: ignore[assignment]
        build(bundle)
        host, device = HostRuntime(bundle, 1), TensorRTRuntime(bundle)
        for picture in pixels:
            for name, policy in chosen.items():
                host.set_pixels(picture)
                wanted = run(layout, settings, policy, host)
                found[name]["calls"] += wanted.calls
                for way in ("look_ahead", "one_by_one"):
                    device.look_ahead = way == "look_ahead"
                    device.set_pixels(picture)
                    got = run(layout, settings, policy, device)
                    same = (wanted.hypotheses[0].tokens, wanted.depths, wanted.steps)
                    found[name][f"{way}_equal"] += same == (got.hypotheses[0].tokens, got.depths, got.steps)
                    cuda.log.clear()
        device.close()
        host.close()
    return found


def looped(folder: Path, precision: str, count: int) -> dict[str, Any]:
    """Criteria (a) and (b) of the verification level `loop`, at full depth and with exits."""
    import torch

    from mue_edge import models, targets
    from mue_edge.apps.stickers import model_folder
    from mue_edge.bundle.folder import open_bundle
    from mue_edge.export.golden import median_policy
    from mue_edge.export.prompts import read_prompt
    from mue_edge.loop.policy import Policy
    from tools.verification.loop import prove, reference_log

    bundle = open_bundle(folder)
    pixels, _ = shown(count, bundle)
    runtime = targets.open_runtime(bundle, 1)
    model = models.load(model_folder())
    prompt = read_prompt(model_folder(), "caption").ids
    full = Policy("never", name="full")
    with torch.no_grad():
        traced = [reference_log(model, prompt, x, bundle.manifest.search, full) for x in pixels[:20]]
        return {
            p.name: asdict(proof) | {"holds": proof.holds(precision)}
            for p in (full, median_policy(traced))
            for proof in (prove(bundle, runtime, model, prompt, pixels, p),)
        }
