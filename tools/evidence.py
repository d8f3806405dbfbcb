"""The long proofs: `python tools/evidence.py [NAME…]`, or `make evidence`.

Each job writes evidence/NAME.json when it is done and is skipped while that file is fresh (the
code that it covers is unchanged), so a run that was stopped goes on where it was. `--check` lists
stale and missing evidence. Pictures come from the sticker recipe, which must have been run.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "evidence"
BUNDLES = ROOT / ".cache" / "bundles"
PICTURES = 500
# What a figure may depend on: everything but the evidence itself and the pages written from it.
CODE = (".", ":!evidence", ":!*.md")
CORE = ("mue_edge/loop.py", "mue_edge/policy.py", "mue_edge/search.py", "mue_edge/cache.py")
SEGMENTS = (
    "mue_edge/models/ofa/segments.py",
    "mue_edge/models/ofa/cut.py",
    "export/onnx.py",
    "export/plan.py",
    "targets/host.py",
    "targets/buffers.py",
    "targets/tensors.py",
)
COREML = (*(f"export/{name}.py" for name in ("coreml", "island", "prove")),)
COREML += ("targets/coreml.py", "targets/methods.py")
COREML += tuple(
    f"targets/mil/{name}.py"
    for name in ("arguments", "arithmetic", "blob", "compressed", "evaluator", "layers", "program", "shapes")
)
COREML_PROOF = "tools/coreml_proof.py"
EXECUTORCH = (
    *(f"mue_edge/models/ofa/{name}.py" for name in ("segments", "cut")),
    *(f"export/{name}.py" for name in ("executorch", "xnnpack", "linear_int8", "plan")),
    *(f"targets/{name}.py" for name in ("executorch", "methods", "buffers", "tensors")),
)
PROOF, RECALIBRATION = "tools/executorch_proof.py", "tools/recalibration.py"
JETSON = (
    *(
        f"export/{name}.py"
        for name in ("tensorrt", "half", "qdq", "ranges", "lower", "gates", "rtx", "jetpack")
    ),
    "export/jetpack.toml",
    "export/tensorrt_operators.toml",
)
FILES = ("model.safetensors", "config.json", "prompts.json", "policies.json", "tokenizer.json")
MODEL = tuple(f"apps/stickers/model/{name}" for name in FILES)


def covers(paths: tuple[str, ...]) -> dict[str, str]:
    """Hash of each covered file."""
    return {p: hashlib.sha256((ROOT / p).read_bytes()).hexdigest()[:16] for p in paths}


def is_fresh(path: Path) -> bool:
    """Whether the evidence exists and nothing that it covers has changed."""
    if not path.is_file():
        return False
    wanted: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["covers"]
    return all((ROOT / p).is_file() for p in wanted) and covers(tuple(wanted)) == wanted


def write(name: str, command: str, covered: tuple[str, ...], figures: Any) -> None:
    """evidence/NAME.json: what was measured, by what, on what."""
    from mue_edge.files import atomic_write
    from mue_edge.versions import installed

    git = lambda *words: subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    packages = ("torch", "onnxruntime", "onnx", "executorch", "torchao", "coremltools", "numpy", "Pillow")
    record = {
        "name": name,
        "date": date.today().isoformat(),
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no", "--", *CODE)),
        "command": command,
        "system": f"{platform.system()} {platform.machine()}, {platform.processor() or 'CPU'}, Python "
        + platform.python_version(),
        "versions": {p: installed(p) for p in packages},
        "covers": covers(covered),
        "figures": figures,
    }
    FOLDER.mkdir(exist_ok=True)
    atomic_write(FOLDER / f"{name}.json", json.dumps(record, indent=1) + "\n")


def bundle(beam: int) -> Path:
    """The bundled model, exported for a beam, in the cache; made again when its evidence is stale."""
    from mue_edge.apps.stickers import model_folder
    from mue_edge.export.build import export

    out = BUNDLES / f"stickers-beam{beam}"
    export(model_folder(), out, "host", {"beam": beam}, name="stickers")
    return out


def lowered(target: str, precision: str = "fp32") -> Path:
    """The bundled model for a target of ExecuTorch's, in the cache. Lowering takes minutes, so a bundle that
    the same files made is taken again."""
    from mue_edge.apps.stickers import model_folder

    out, made_by = BUNDLES / f"stickers-{target}-{precision}", covers((*EXECUTORCH, *MODEL))
    stamp = out.with_suffix(".json")
    if not (out.is_dir() and stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8")) == made_by):
        cli("export", str(model_folder()), "--target", target, "--precision", precision, "--out", str(out))
        stamp.write_text(json.dumps(made_by), encoding="utf-8")
    return out


def held_out(count: int) -> list[Any]:
    """`count` test_render pictures as RGB images, spread over the split."""
    import numpy as np
    from PIL import Image

    from mue_edge.apps.stickers.dataset import read

    data = read()
    rows = data.rows("test_render")
    chosen = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
    pictures = []
    for i in chosen:
        rgba = Image.fromarray(np.asarray(data.pixels[i]), "RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        pictures.append(Image.alpha_composite(white, rgba).convert("RGB"))
    return pictures


def bundled(count: int) -> tuple[list[Any], list[str]]:
    """`count` pictures of val_render, which comes with the package, and their captions, spread over it."""
    from PIL import Image

    from mue_edge.apps.stickers import shipped

    found = shipped.load("val_render")
    rows = [round(i * (len(found.entries) - 1) / (count - 1)) for i in range(count)]
    return [Image.fromarray(found.pixels[i]) for i in rows], [found.captions[i] for i in rows]


def loop(name: str, place: Path, pictures: list[Any], covered: tuple[str, ...]) -> None:
    """Design 5's criteria (a) and (b) for one bundle, at full depth and with exits."""
    import torch

    from mue_edge import models, targets
    from mue_edge.apps.stickers import model_folder
    from mue_edge.bundle import open_bundle
    from mue_edge.export.build import read_prompt
    from mue_edge.export.golden import median_policy
    from mue_edge.export.prove import prove, reference_log
    from mue_edge.image import preprocess
    from mue_edge.policy import Policy

    opened = open_bundle(place)
    runtime = targets.open_runtime(opened)
    model = models.load(model_folder())
    prompt = read_prompt(model_folder(), "caption").ids
    p = opened.manifest.preprocess
    pixels = [preprocess(x, p.height, p.width, mean=p.mean, std=p.std) for x in pictures]
    with torch.no_grad():
        traced = [
            reference_log(model, prompt, x, opened.manifest.search, Policy("never")) for x in pixels[:50]
        ]
        figures = {}
        for policy in (Policy("never", name="full"), median_policy(traced)):
            with click.progressbar(length=len(pixels), label=f"{name}, {policy.name}") as bar:
                proof = prove(
                    opened, runtime, model, prompt, pixels, policy, lambda done, bar=bar: bar.update(1)
                )
            figures[policy.name] = asdict(proof) | {"holds": proof.holds("fp32")}
    write(name, f"python tools/evidence.py {name}", (*CORE, *covered, *MODEL), figures)


def executorch_loop(target: str) -> None:
    """The same for a target of ExecuTorch's, on 200 pictures."""
    loop(f"executorch-loop-{target}", lowered(target), bundled(200)[0], EXECUTORCH)


def executorch_int8() -> None:
    """Design 5's criterion (c): int8 against fp32 on 200 pictures, thresholds set on 50 others."""
    from recalibration import int8_holds, recalibrated

    pictures, names = bundled(250)
    figures: dict[str, Any] = {}
    for precision in ("fp32", "int8"):
        place = lowered("android", precision)
        size = sum(path.stat().st_size for path in (place / "segments").iterdir())
        figures[precision] = recalibrated(place, pictures, names) | {"program_bytes": size}
    figures["holds"] = int8_holds(figures["fp32"], figures["int8"])
    write("executorch-int8", "python tools/evidence.py executorch-int8",
          (*CORE, *EXECUTORCH, *MODEL, RECALIBRATION), figures)  # fmt: skip


def executorch_java() -> None:
    """The Android adapter over a JVM against the host, on 50 pictures under three policies."""
    from java_proof import compared

    from mue_edge.bundle import open_bundle
    from mue_edge.image import preprocess

    opened = open_bundle(bundle(1))
    p = opened.manifest.preprocess
    pixels = [preprocess(x, p.height, p.width, mean=p.mean, std=p.std) for x in bundled(50)[0]]
    figures = compared(opened, pixels, ("full", "balanced", "fast"))
    adapter = ("targets/executorch_java.py", "targets/methods.py", "tools/java_proof.py")
    write("executorch-java", "python tools/evidence.py executorch-java",
          (*CORE, *SEGMENTS, *MODEL, *adapter), figures)  # fmt: skip


def web() -> None:
    """The web app in Chromium against the host: small and large pictures, offline, memory, sizes."""
    from web_proof import figures

    out = BUNDLES / "stickers-browser"
    cli("export", "stickers", "--target", "browser", "--out", str(out))
    found = figures(out, bundled(50)[0], 200)
    own = (*(f"apps/web/{name}.py" for name in ("npm", "session", "site")), "tools/web_proof.py")
    own += tuple(f"apps/web/page/{p.name}" for p in sorted((ROOT / "apps" / "web" / "page").iterdir()))
    write("web", "python tools/evidence.py web", (*CORE, *SEGMENTS, *MODEL, *own), found)


def executorch_vulkan() -> None:
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


def executorch_base() -> None:
    """OFA-base's size with random weights: what lowering and loading cost."""
    import resource
    import time

    from executorch_proof import loading, peak_mb

    from mue_edge.bundle import open_bundle

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
    write("executorch-base", "python tools/evidence.py executorch-base", (*EXECUTORCH, PROOF), figures)


def bench() -> None:
    """`mue-edge bench` on held-out demo pictures, against the monolithic graphs."""
    from mue_edge.apps.stickers import demo_pictures, model_folder

    pictures = [str(path) for path, _ in demo_pictures()]
    figures = {}
    for policy in ("balanced", "fast"):
        options = ["--policy", policy, "--rounds", "30", "--model", str(model_folder())]
        figures[policy] = measured(bundle(1), *pictures, *options)
    write("bench", "mue-edge bench BUNDLE DEMO-PICTURES --model stickers --policy balanced|fast --rounds 30",
          (*CORE, *SEGMENTS, *MODEL), figures)  # fmt: skip


def executorch_bench() -> None:
    """Android's bundle on ExecuTorch here, against one graph a stack and against the host's bundle."""
    from mue_edge.apps.stickers import demo_pictures, model_folder

    pictures = [str(path) for path, _ in demo_pictures()]
    options = ["--policy", "balanced", "--rounds", "21", "--model", str(model_folder())]
    place = lowered("android")
    figures = {"balanced": measured(place, *pictures, *options, "--against", str(bundle(1)))}
    write("executorch-bench",
          "mue-edge bench BUNDLE DEMO-PICTURES --model stickers --policy balanced --against HOST-BUNDLE",
          (*CORE, *EXECUTORCH, *SEGMENTS, *MODEL), figures)  # fmt: skip


def bench_ofa_tiny() -> None:
    """Random weights of OFA-tiny's size, forced to leave half way: what time does, not what words do."""
    from mue_edge.export.build import export

    model, out, policy = BUNDLES / "ofa-tiny", BUNDLES / "ofa-tiny-host", BUNDLES / "half.json"
    cli("import", "--random", "ofa-tiny", "--mue", "--out", str(model))
    export(model, out)
    policy.write_text(json.dumps({"rule": "fixed", "depth_image": 2, "depth_decoder": 2, "name": "half"}))
    figures = {"half": measured(out, "--policy", str(policy), "--rounds", "21", "--model", str(model))}
    figures["half"]["policy_origin"] = "fixed: 2 of 4 image and decoder layers"
    write("bench-ofa-tiny", "mue-edge bench BUNDLE --model MODEL --policy half.json --rounds 21",
          (*CORE, *SEGMENTS), figures)  # fmt: skip


def measured(place: Path, *options: str) -> dict[str, Any]:
    """The record of one `mue-edge bench`."""
    out = BUNDLES / "bench.json"
    cli("bench", str(place), *options, "--out", str(out))
    record: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return record


def cli(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "mue_edge", *words], cwd=ROOT, check=True)


def policies() -> None:
    """Exact match of the bundled policies on test_render, through the exported bundle."""
    from mue_edge import replay, targets
    from mue_edge.apps.stickers.dataset import read
    from mue_edge.apps.stickers.evaluation import still

    data = read()
    rows = data.rows("test_render")
    pixels = [still(data, rows[i : i + 1]).numpy() for i in range(len(rows))]
    names = [data.records[i].caption for i in rows]
    figures = {}
    with targets.open(bundle(1), threads=1) as captioner:
        for name, policy in captioner.bundle.manifest.policies().items():
            right = 0
            for picture, wanted in zip(pixels, names, strict=True):
                captioner.runtime.set_pixels(picture)
                run = replay.run(captioner.layout, captioner.settings(), policy, captioner.runtime)
                right += captioner.tokenizer.caption(run.hypotheses[0].tokens).strip() == wanted
            figures[name] = {"pictures": len(names), "exact_match": right / len(names)}
    write("policies", "python tools/evidence.py policies", (*CORE, *SEGMENTS, *MODEL), figures)


def deadline() -> None:
    """Deadline mode under slow moments, on pictures that policies are chosen on."""
    from deadline_proof import figures

    from mue_edge import machine, targets
    from mue_edge.calibrate.plan_search import drawn

    with targets.open(bundle(1), threads=1) as captioner:
        tune, _, known = bundled_samples(captioner)
        found = {"load": round(machine.load_average(), 1)} | figures(captioner, drawn(tune, 200, 0), known)
    own = (*(f"mue_edge/{name}.py" for name in ("deadline", "pace", "captioner")), "tools/deadline_proof.py",
           "calibrate/cider.py")  # fmt: skip
    write("deadline", "python tools/evidence.py deadline", (*CORE, *SEGMENTS, *MODEL, *own), found)


def memo() -> None:
    """The memo tree against live runs: 200 pictures under 20 random policies, greedy and with beams."""
    from mue_edge.bundle import open_bundle
    from mue_edge.calibrate.prove_memo import prove
    from mue_edge.image import preprocess

    figures = {}
    for beam in (1, 5):
        opened = open_bundle(bundle(beam))
        p = opened.manifest.preprocess
        pixels = [preprocess(x, p.height, p.width, mean=p.mean, std=p.std) for x in held_out(200)]
        with (
            tempfile.TemporaryDirectory() as folder,
            click.progressbar(length=len(pixels), label=f"memo, beam {beam}") as bar,
        ):
            proof = prove(opened, Path(folder), pixels, 20, lambda bar=bar: bar.update(1))
        figures[f"beam {beam}"] = {k: round(v, 3) for k, v in asdict(proof).items()}
    own = tuple(f"calibrate/{name}.py" for name in ("memo", "trace_store", "outcomes", "plain_replay"))
    write("memo", "python tools/evidence.py memo", (*CORE, *own, *SEGMENTS, *MODEL), figures)


def certificate() -> None:
    """Coverage, power and the walk of the certificate, on simulated scores and on those of the bundled model
    on the pictures that it is certified on."""
    from mue_edge import targets
    from mue_edge.calibrate import prove_certificate, simulate
    from mue_edge.calibrate.plan_search import drawn

    with targets.open(bundle(1), threads=1) as captioner:
        tune, certify, known = bundled_samples(captioner)
        chosen = prove_certificate.policies(captioner, drawn(tune, 100, 0))
        with (
            tempfile.TemporaryDirectory() as folder,
            click.progressbar(length=len(certify), label="certificate, captions") as bar,
        ):
            pools = prove_certificate.pools(
                captioner, Path(folder), chosen, certify, known, 2, lambda _: bar.update(1)
            )
    sources = {
        "simulated": (simulate.cases(), simulate.policies()),
        certify.source: (prove_certificate.cases(pools, simulate.PLACES), list(pools.values())),
    }
    figures = {}
    for name, (cases, policies) in sources.items():
        with click.progressbar(length=simulate.REPETITIONS, label=f"certificate, {name}") as bar:
            figures[name] = simulate.figures(cases, policies, step=lambda bar=bar: bar.update(1))
    figures["simulated"]["binomial"] = [
        simulate.record(simulate.binomial_coverage(drop, error, simulate.CLUSTERS))
        for drop, error in simulate.PLACES
    ]
    own = (
        "prove_certificate", "simulate", "pareto_testing", "betting", "binomial", "losses", "clusters",
        "cider", "power", "certificate", "outcomes", "memo", "candidates", "samples",
    )  # fmt: skip
    covered = (*CORE, *SEGMENTS, *MODEL, *(f"calibrate/{name}.py" for name in own))
    write("certificate", "python tools/evidence.py certificate", covered, figures)


def bundled_samples(captioner: Any) -> tuple[Any, Any, Any]:
    """The stickers' pictures to tune on and to certify on, and frozen document frequencies."""
    from mue_edge.apps.catalogue import calibration_pictures
    from mue_edge.calibrate import samples
    from mue_edge.calibrate.examples import as_spoken

    spoken = partial(as_spoken, captioner.tokenizer)
    return samples.of_tables(*calibration_pictures("stickers"), spoken)


def calibrate() -> None:
    """`mue-edge calibrate` as a user calls it, for several budgets, one after another in one folder."""
    import shutil

    from mue_edge.calibrate.certificate import certificate_from_json

    out = BUNDLES / "calibrated"
    shutil.rmtree(out, ignore_errors=True)
    figures = {}
    for budget in ("50ms", "70%", "50%", "35%"):
        cli("calibrate", "--budget", budget, "--out", str(out))
        found = json.loads((out / "calibration.json").read_text(encoding="utf-8"))
        front = {point["policy"]["name"]: point for point in found["front"]}
        chosen, live = front[found["chosen"]], found["live"][found["chosen"]]
        certificate = certificate_from_json(found["certificate"])
        figures[budget] = {
            "budget_ms": found["budget_ms"], "chosen": found["chosen"], "policy": chosen["policy"],
            "certified": bool(certificate.certified), "statement": certificate.statement,
            "drop_bound_of_primary": found["drop_bound_of_primary"], "kept_tune": chosen["kept"],
            "predicted_ms": chosen["mean_ms"], "predicted_p95_ms": chosen["p95_ms"],
            "live_ms": live["mean_ms"], "live_p95_ms": live["p95_ms"], "live_late": live["late"],
            "live_captions": live["captions"], "live_of_full_depth": live["of_full_depth"],
            "candidates": found["candidates"], "smallest_drop": found["smallest_drop"],
            "clusters": certificate.clusters, "load": found["profile"]["load"],
        }  # fmt: skip
    own = (
        "calibration",
        "candidates",
        "certifier",
        "outcomes",
        "pareto_testing",
        "tuning",
        "betting",
        "losses",
    )
    covered = (*CORE, *SEGMENTS, *MODEL, *(f"calibrate/{name}.py" for name in own))
    write("calibrate", "mue-edge calibrate --budget BUDGET", covered, figures)


SAVINGS = ("calibration", "candidates", "savings", "outcomes", "memo", "tuning", "cider", "bootstrap")


def savings_exits() -> None:
    """Quality at given savings of time: one plan, exits alone."""
    from savings_proof import exits_alone

    covered = (*CORE, *SEGMENTS, *MODEL, "tools/savings_proof.py", *(f"calibrate/{n}.py" for n in SAVINGS))
    figures = exits_alone(bundle(1), BUNDLES / "savings-exits")
    write("savings-exits", "python tools/evidence.py savings-exits", covered, figures)


def signals() -> None:
    """AUC of every exit signal by decoder boundary."""
    from signals_proof import figures

    from mue_edge.apps.stickers import model_folder

    own = ("mue_edge/models/ofa/steps.py", "calibrate/head_training.py", "calibrate/signals.py")
    command = "python tools/evidence.py signals"
    write("signals", command, (*MODEL, "tools/signals_proof.py", *own), figures(model_folder()))


def savings_plans() -> None:
    """Quality at given savings of time: exits, image size, precision and cuts."""
    from savings_proof import exits_and_plans

    from mue_edge.apps.stickers import model_folder

    own = (*SAVINGS, "plan_search", "plan_space", "plan_trial", "planning", "yardstick")
    covered = (*CORE, *SEGMENTS, *MODEL, "tools/savings_proof.py", *(f"calibrate/{n}.py" for n in own))
    figures = exits_and_plans(model_folder(), BUNDLES / "savings-plans")
    write("savings-plans", "python tools/evidence.py savings-plans", covered, figures)


def iphone() -> None:
    """Core ML packages of the bundled model through the evaluator: design 5's `loop`, sizes."""
    import coreml_proof

    pictures, names = bundled(125)
    with click.progressbar(length=400, label="iphone") as bar:
        found = coreml_proof.stickers(BUNDLES, pictures, names, lambda done: bar.update(1))
    write("iphone", "python tools/evidence.py iphone",
          (*CORE, *SEGMENTS, *MODEL, *COREML, COREML_PROOF, RECALIBRATION), found)  # fmt: skip


def iphone_ofa_base() -> None:
    """Random weights of OFA-base's size as Core ML packages: sizes, time and memory of the export."""
    import coreml_proof

    found = coreml_proof.ofa_base(ofa_base(), BUNDLES)
    write("iphone-ofa-base", "python tools/evidence.py iphone-ofa-base",
          (*SEGMENTS, *COREML, COREML_PROOF), found)  # fmt: skip


def ofa_base() -> Path:
    """A random model of OFA-base's shape, made once."""
    model = BUNDLES / "ofa-base"
    if not (model / "config.json").is_file():
        cli("import", "--random", "ofa-base", "--mue", "--out", str(model))
    return model


def jetson_base() -> None:
    """A random model of OFA-base's shape exported for Jetson: time, memory, bytes."""
    from jetson_proof import exported

    write("jetson-ofa-base", "mue-edge import --random ofa-base --mue; mue-edge export --target jetson",
          (*CORE, *SEGMENTS, *JETSON), exported(str(ofa_base()), BUNDLES / "ofa-base-jetson"))  # fmt: skip


def jetson_gates() -> None:
    """Every segment of two models in every profile and precision through all gates, and through the proxy."""
    from jetson_proof import gated

    from mue_edge.apps.stickers import model_folder

    figures = {"stickers": gated(model_folder()), "ofa-base (random)": gated(ofa_base())}
    write("jetson-gates", "python tools/evidence.py jetson-gates",
          (*CORE, *SEGMENTS, *JETSON, *MODEL), figures)  # fmt: skip


def jetson_adapter() -> None:
    """The TensorRT adapter over stand-ins against ONNX Runtime, token for token on 200 pictures."""
    from jetson_proof import adapter, bundled

    out = bundled(BUNDLES / "stickers-jetson-fp16", "fp16")
    adapter_code = tuple(f"targets/trt/{name}.py" for name in ("runtime", "segments", "memory", "engines"))
    write("jetson-adapter", "python tools/evidence.py jetson-adapter",
          (*CORE, *SEGMENTS, *JETSON, *adapter_code, *MODEL), adapter(out, 200))  # fmt: skip


def jetson_loop() -> None:
    """Typed graphs of the bundled model through ONNX Runtime: fp16 against the torch model, int8 against fp32
    with thresholds set on other pictures."""
    from jetson_proof import bundled as made
    from jetson_proof import looped
    from recalibration import int8_holds, recalibrated

    out = {p: made(BUNDLES / f"stickers-jetson-{p}", p) for p in ("fp32", "fp16", "int8")}
    figures: dict[str, Any] = {"fp16": looped(out["fp16"], "fp16", 200)}
    pictures, names = bundled(250)
    int8 = {p: recalibrated(out[p], pictures, names) for p in ("fp32", "int8")}
    figures["int8"] = int8 | {"holds": int8_holds(int8["fp32"], int8["int8"])}
    write("jetson-loop", "python tools/evidence.py jetson-loop",
          (*CORE, *SEGMENTS, *JETSON, *MODEL, "export/prove.py", RECALIBRATION), figures)  # fmt: skip


def stickers() -> None:
    """The bundled model on all splits; the module writes its own evidence and the model card."""
    subprocess.run([sys.executable, "-m", "mue_edge.apps.stickers.evidence"], cwd=ROOT, check=True)


def decoders() -> None:
    """Decoders with and without exits on the bundled encoder; the module writes its own evidence, the model
    card and the learning curves, and goes on where it was stopped."""
    subprocess.run([sys.executable, "-m", "mue_edge.apps.stickers.decoders"], cwd=ROOT, check=True)


JOBS: dict[str, Callable[[], None]] = {
    "loop-beam1": lambda: loop("loop-beam1", bundle(1), held_out(PICTURES), SEGMENTS),
    "loop-beam5": lambda: loop("loop-beam5", bundle(5), held_out(PICTURES), SEGMENTS),
    "executorch-loop-android": lambda: executorch_loop("android"),
    "executorch-loop-embedded-linux": lambda: executorch_loop("embedded-linux"),
    "executorch-int8": executorch_int8,
    "executorch-java": executorch_java,
    "web": web,
    "executorch-vulkan": executorch_vulkan,
    "executorch-base": executorch_base,
    "executorch-bench": executorch_bench,
    "bench": bench,
    "bench-ofa-tiny": bench_ofa_tiny,
    "policies": policies,
    "deadline": deadline,
    "memo": memo,
    "certificate": certificate,
    "calibrate": calibrate,
    "savings-exits": savings_exits,
    "savings-plans": savings_plans,
    "signals": signals,
    "jetson-adapter": jetson_adapter,
    "jetson-loop": jetson_loop,
    "jetson-ofa-base": jetson_base,
    "jetson-gates": jetson_gates,
    "stickers": stickers,
    "stickers-decoders": decoders,
    "iphone": iphone,
    "iphone-ofa-base": iphone_ofa_base,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(JOBS)))
@click.option("--force", is_flag=True, help="Also what is fresh.")
@click.option("--check", is_flag=True, help="Only say what is stale or missing.")
def main(names: tuple[str, ...], force: bool, check: bool) -> None:
    for name in names or JOBS:
        path = FOLDER / f"{name}.json"
        state = "fresh" if is_fresh(path) else "stale" if path.is_file() else "missing"
        if check or (state == "fresh" and not force):
            click.echo(f"{name}: {state}")
            continue
        click.echo(f"{name}: {state}; measuring")
        JOBS[name]()


if __name__ == "__main__":
    main()
