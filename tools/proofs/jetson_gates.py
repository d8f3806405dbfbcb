"""The Jetson target as far as a plain machine can prove it."""

from __future__ import annotations

from typing import Any

from proofs.bundles import BUNDLES, ofa_base
from proofs.covered import CORE, JETSON, MODEL, SEGMENTS
from proofs.pictures import bundled
from proofs.record import write


def base() -> None:
    """A random model of OFA-base's shape exported for Jetson: time, memory, bytes."""
    from proofs.jetson_measured import exported

    write("jetson-ofa-base", "mue-edge import --random ofa-base --mue; mue-edge export --target jetson",
          (*CORE, *SEGMENTS, *JETSON), exported(str(ofa_base()), BUNDLES / "ofa-base-jetson"))  # fmt: skip


def gates() -> None:
    """Every segment of two models in every profile and precision through all gates, and through the proxy."""
    from mue_edge.apps.stickers import model_folder
    from proofs.jetson_measured import gated

    figures = {"stickers": gated(model_folder()), "ofa-base (random)": gated(ofa_base())}
    write("jetson-gates", "python tools/evidence.py jetson-gates",
          (*CORE, *SEGMENTS, *JETSON, *MODEL), figures)  # fmt: skip


def adapter() -> None:
    """The TensorRT adapter over stand-ins against ONNX Runtime, token for token on 200 pictures."""
    from proofs.jetson_measured import adapted, made

    out = made(BUNDLES / "stickers-jetson-fp16", "fp16")
    adapter_code = tuple(f"targets/trt/{name}.py" for name in ("runtime", "segments", "memory", "engines"))
    write("jetson-adapter", "python tools/evidence.py jetson-adapter",
          (*CORE, *SEGMENTS, *JETSON, *adapter_code, *MODEL), adapted(out, 200))  # fmt: skip


def loop() -> None:
    """Typed graphs of the bundled model through ONNX Runtime: fp16 against the torch model, int8 against fp32
    with thresholds set on other pictures."""
    from proofs.jetson_measured import looped, made
    from proofs.recalibration import int8_holds, recalibrated

    out = {p: made(BUNDLES / f"stickers-jetson-{p}", p) for p in ("fp32", "fp16", "int8")}
    figures: dict[str, Any] = {"fp16": looped(out["fp16"], "fp16", 200)}
    pictures, names = bundled(250)
    int8 = {p: recalibrated(out[p], pictures, names) for p in ("fp32", "int8")}
    figures["int8"] = int8 | {"holds": int8_holds(int8["fp32"], int8["int8"])}
    write("jetson-loop", "python tools/evidence.py jetson-loop",
          (*CORE, *SEGMENTS, *JETSON, *MODEL, "export/prove.py", "tools/proofs/recalibration.py"),
          figures)  # fmt: skip
