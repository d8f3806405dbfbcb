"""Typed graphs for TensorRT: numbers, types, gates that can fail, ranges that are heeded, the report."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("torch")

import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from mue_edge import targets
from mue_edge.bundle.folder import open_bundle
from mue_edge.bundle.manifest import Port, Segment
from mue_edge.errors import UsageError, VerificationError
from mue_edge.export import report
from mue_edge.export.build import export
from mue_edge.export.onnx import half, lower, qdq
from mue_edge.export.onnx.graphs import Graph
from mue_edge.export.tensorrt import gates, jetpack, rtx
from mue_edge.export.tensorrt.format import typed
from mue_edge.targets.host import AS_WRITTEN
from tests.contract.cuts import make_case, pictures
from tests.contract.typed import graphs_of, ranges_of

PRECISIONS = ("fp32", "fp16", "int8")
# Largest error of an output against torch, relative to max(1, |output|): fp16 has 11 bits.
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}


def outputs(graph: Graph, model: Any) -> dict[str, tuple[Any, Any]]:
    """Port → (torch's, ONNX Runtime's) on the values that a captioning would feed, or on noise."""
    generator = torch.Generator().manual_seed(1)
    inputs = {
        port: torch.randn(x.shape, generator=generator)
        if x.is_floating_point()
        else torch.randint(0, 9, x.shape, generator=generator)
        for port, x in graph.piece.inputs.items()
    }
    with torch.no_grad():
        out = graph.piece.module.eval()(*inputs.values())
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options)
    half_ports = {i.name for i in session.get_inputs() if i.type == "tensor(float16)"}
    feeds = {p: x.numpy().astype(np.float16) if p in half_ports else x.numpy() for p, x in inputs.items()}
    found = session.run(list(graph.piece.outputs), feeds)
    wanted = out if isinstance(out, tuple) else (out,)
    return {p: (a.numpy(), b) for p, a, b in zip(graph.piece.outputs, wanted, found)}


@pytest.mark.parametrize("name", jetpack.names())
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_segment_passes_the_gates_and_computes_the_same(name: str, precision: str) -> None:
    profile = jetpack.profile(name)
    for case in ("prompt", "joint"):
        made, _ = typed(graphs_of(case), precision, profile, ranges_of(case))
        for graph in made:
            gates.check(graph.model, graph.piece.name, profile)
            if precision == "int8":  # noise lies outside of what the scan has seen
                continue
            for port, (a, b) in outputs(graph, graph.model).items():
                if port != "top_ids":
                    error = np.max(np.abs(a - b) / np.maximum(1, np.abs(a)))
                    assert error <= TOLERANCE[precision], (graph.piece.name, port, error)


def test_what_the_host_reads_is_float32_and_the_rest_half() -> None:
    made, kept = typed(graphs_of("prompt"), "fp16", jetpack.profile("jetpack-6"), ranges_of("prompt"))
    assert kept == {}, "nothing in this model comes near the end of float16"
    for graph in made:
        ports = {v.name: v.type.tensor_type.elem_type for v in (*graph.model.graph.input, *graph.model.graph.output)}
        for port, kind in ports.items():
            host = port in half.HOST_PORTS
            wanted = {TensorProto.FLOAT, TensorProto.INT64} if host or port == "ids" else {TensorProto.FLOAT16}
            assert kind in wanted, (graph.piece.name, port)


def test_scores_are_computed_in_float32() -> None:
    """The states are squared and summed for the score: in half precision large ones would be infinite."""
    graph = next(g for g in graphs_of("prompt") if g.piece.name == "image.1")
    made = half.half(graph.model, {}, frozenset()).model
    nodes = {node.output[0]: node for node in made.graph.node}
    products = [n for n in made.graph.node if n.op_type == "ReduceSum"]
    assert len(products) == 3
    inferred = onnx.shape_inference.infer_shapes(lower.to_opset(made, 20, 10)).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
    assert {types[n.output[0]] for n in products} == {TensorProto.FLOAT}
    weighted = [n for n in made.graph.node if n.op_type == "Gemm"]
    assert {types[n.output[0]] for n in weighted} == {TensorProto.FLOAT16} and nodes


def test_ranges_near_the_end_of_half_precision_are_kept_in_float32() -> None:
    graph = next(g for g in graphs_of("prompt") if g.piece.name == "image.0")
    plain = half.half(graph.model, dict.fromkeys(ranges_of("prompt")["image.0"], 1.0), frozenset())
    assert plain.kept == ()
    norm = next(n for n in graph.model.graph.node if n.op_type == "LayerNormalization")
    loud = half.half(graph.model, {norm.input[0]: half.LARGEST_IN_NORM * 1.01}, frozenset())
    assert loud.kept == ("layers.0.self_attn_layer_norm",)
    total = next(n for n in graph.model.graph.node if n.op_type == "Add" and "layer_norm" in n.input[1])
    louder = half.half(graph.model, {total.output[0]: half.LARGEST * 1.01}, frozenset())
    assert f"Add {total.output[0]}" in louder.kept


def test_a_wide_state_makes_all_ports_of_its_kind_wide() -> None:
    ports = {"image.0": ("x", "y", "pos_q"), "cross_kv.0": ("image_x", "k")}
    wide = half.wide_kinds({"image.0": {"y": 60000.0, "x": 1.0}}, ports)
    assert wide == {"states"}
    assert {half.kind(p) for p in ("x", "y", "image_x", "text_x")} == {"states"} and half.kind("k") == "cross"
    graph = next(g for g in graphs_of("prompt") if g.piece.name == "image.0")
    made = half.half(graph.model, {}, wide).model
    types = {v.name: v.type.tensor_type.elem_type for v in (*made.graph.input, *made.graph.output)}
    assert types["x"] == types["y"] == TensorProto.FLOAT and types["pos_q"] == TensorProto.FLOAT16


def test_int8_scales_are_symmetric_and_by_channel() -> None:
    graph = next(g for g in graphs_of("prompt") if g.piece.name == "image.0")
    peaks = ranges_of("prompt")["image.0"]
    made = qdq.int8("image.0", graph.model, peaks)
    tensors = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    gemm = next(n for n in graph.model.graph.node if n.op_type == "Gemm")
    weight = numpy_helper.to_array(next(t for t in graph.model.graph.initializer if t.name == gemm.input[1]))
    assert tensors[f"{gemm.input[0]}.scale"] == pytest.approx(peaks[gemm.input[0]] / 127)
    levels, scale = tensors[f"{gemm.input[1]}.q"], tensors[f"{gemm.input[1]}.scale"]
    assert levels.dtype == np.int8 and np.abs(levels).max() == 127 and gemm.input[1] not in tensors
    assert np.allclose(levels * scale[:, None], weight, atol=scale.max())
    assert not any(np.any(t) for name, t in tensors.items() if name.endswith(".zero"))
    fill = next(g for g in graphs_of("prompt") if g.piece.name == "fill.1")
    kept = qdq.int8("fill.1", fill.model, dict.fromkeys(["x", "layer_norm"], 1.0))
    assert [n.op_type for n in kept.graph.node] == [n.op_type for n in fill.model.graph.node]


def test_onnxruntime_computes_int8_as_written(tmp_path: Path) -> None:
    """Its fused half-precision convolutions between Q/DQ pairs do not: the options leave fusing out."""
    profile = jetpack.profile("jetpack-6")
    made = typed(graphs_of("prompt"), "int8", profile, ranges_of("prompt"))[0]
    stem = next(g for g in made if g.piece.name == "stem")
    found = []
    for entries, level in (([AS_WRITTEN], None), ([], ort.GraphOptimizationLevel.ORT_DISABLE_ALL)):
        options = ort.SessionOptions()
        options.log_severity_level = 4
        for entry in entries:
            options.add_session_config_entry(*entry)
        if level is not None:
            options.graph_optimization_level = level
        session = ort.InferenceSession(stem.model.SerializeToString(), options)
        found.append(session.run(["x"], {"pixels": pictures()[0]})[0].astype(np.float32))
    with torch.no_grad():
        wanted = stem.piece.module.eval()(torch.from_numpy(pictures()[0]))[0].numpy()
    assert np.allclose(found[0], found[1], atol=2e-2)
    assert np.abs(found[0] - wanted).mean() < 0.2 * np.abs(wanted).mean()


# --- Gates: each must be able to refuse.
def smuggled(model: Any) -> None:
    model.graph.node[0].op_type = "BitwiseAnd"


def foreign(model: Any) -> None:
    model.graph.node[0].domain = "com.example"


def too_new(model: Any) -> None:
    model.opset_import[0].version = 24


def newer_file(model: Any) -> None:
    model.ir_version = 12


def double_weight(model: Any) -> None:
    model.graph.initializer.append(helper.make_tensor("d", TensorProto.DOUBLE, [1], [1.0]))


def dynamic(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"


def asymmetric(model: Any) -> None:
    model.graph.initializer.append(helper.make_tensor("s", TensorProto.FLOAT, [], [1.0]))
    model.graph.initializer.append(helper.make_tensor("z", TensorProto.INT8, [], [3]))
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", [model.graph.input[0].name, "s", "z"], ["q"]))


def unknown_input(model: Any) -> None:
    model.graph.node[0].input[0] = "nowhere"


BAD: dict[str, Callable[[Any], None]] = {
    r"operator BitwiseAnd is not in the table of TensorRT 10\.3": smuggled,
    "com.example::.* would need a plugin": foreign,
    "opset 24, at most 20 is taken": too_new,
    "IR version 12, at most 10 is taken": newer_file,
    "weight d is DOUBLE": double_weight,
    "has no static shape": dynamic,
    "is not symmetric int8": asymmetric,
    "ONNX's checker": unknown_input,
}


@pytest.mark.parametrize("message", BAD)
def test_a_gate_refuses(message: str) -> None:
    profile = jetpack.profile("jetpack-6")
    graph = typed(graphs_of("prompt")[:1], "fp16", profile, ranges_of("prompt"))[0][0]
    gates.check(graph.model, "stem", profile)
    BAD[message](graph.model)
    with pytest.raises(VerificationError, match=rf"segment stem is not fit for JetPack 6.*{message}"):
        gates.check(graph.model, "stem", profile)


def test_jetpack_5_has_no_layer_norm() -> None:
    graph = next(g for g in graphs_of("prompt") if g.piece.name == "embed")
    old = jetpack.profile("jetpack-5")
    whole = lower.to_opset(graph.model, 18, 8)
    with pytest.raises(VerificationError, match=r"opset 18, at most 16.*LayerNormalization is not in the table"):
        gates.check(whole, "embed", old)
    apart = lower.to_opset(graph.model, old.opset, old.ir)
    assert "LayerNormalization" not in {n.op_type for n in apart.graph.node}
    gates.check(apart, "embed", old)
    for a, b in outputs(graph, apart).values():
        assert np.allclose(a, b, atol=1e-5)


def test_profiles_are_the_targets_backends() -> None:
    assert targets.target("jetson").backends == jetpack.names()
    with pytest.raises(UsageError, match="jetpack-6, jetpack-7, jetpack-5"):
        jetpack.profile("jetpack-4")
    for name in jetpack.names():
        table = jetpack.operators(jetpack.profile(name).operators)
        assert table.source and {"MatMul", "Conv", "Erf", "TopK"} <= set(table.operators) and table.types


# --- The whole export.
@pytest.fixture(scope="module")
def five(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUE_EDGE_JETSON", "onnxruntime")
        out = tmp_path_factory.mktemp("jetson") / "five"
        return export(tiny_model_folder, out, "jetson", {"backend": "jetpack-5", "precision": "int8", "ends": "whole"})


def test_jetpack_5_gets_a_script(five: Any) -> None:
    manifest = five.bundle.manifest
    script = (five.bundle.path / "trtexec.sh").read_text()
    assert "trtexec.sh" in manifest.files and manifest.runtime.versions == ">=8.5,<8.6"
    for name in manifest.segments:
        line = next(x for x in script.splitlines() if f"segments/{name}.onnx" in x)
        assert "--int8 --fp16" in line
        assert (":fp32" in line) == (name != "stem" or ".mean" in line)
    assert any("mue-edge itself does not run there" in line for line in five.summary)
    types = {p.dtype for s in manifest.segments.values() for p in s.inputs.values()}
    assert types == {"float32", "int64"}


def test_the_script_finds_trtexec(five: Any, tmp_path: Path) -> None:
    """Where JetPack has it, or on PATH; it ends with a line where it is nowhere."""
    script, folder = five.bundle.path / "trtexec.sh", tmp_path / "bundle"
    folder.mkdir()
    copied, text = folder / script.name, script.read_text()
    copied.write_text(text.replace("/usr/src/tensorrt/bin", str(tmp_path / "jetpack")))
    shell, plain = shutil.which("sh") or "sh", {"PATH": "/usr/bin:/bin"}
    done = subprocess.run([shell, str(copied)], env=plain, capture_output=True, text=True)
    assert done.returncode == 5 and "sudo apt install tensorrt" in done.stderr
    tool = tmp_path / "tools" / "trtexec"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "$@"\n')
    tool.chmod(0o755)
    path = {"PATH": f"{tool.parent}:{plain['PATH']}"}
    done = subprocess.run([shell, str(copied)], env=path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("--onnx=") == len(five.bundle.manifest.segments)
    tool.parent.rename(tmp_path / "jetpack")
    jetpacks = subprocess.run([shell, str(copied)], env=plain, capture_output=True, text=True)
    assert "/usr/src/tensorrt/bin" in text and jetpacks.stdout == done.stdout


def test_the_default_plan_is_grouped_and_half(tiny_model_folder: Path, jetson_default: Any) -> None:
    manifest = jetson_default.bundle.manifest
    assert manifest.precision == "fp16" and manifest.plan["backend"] == "jetpack-6"
    assert manifest.layout.decoder.ends == (2, 3)
    assert manifest.evidence.versions["rtx_aot_build"].startswith(("not run", "pass"))
    assert open_bundle(jetson_default.bundle.path).manifest == manifest
    said = "\n".join(jetson_default.summary)
    for word in ("JetPack 6.1", "all gates passed", "Orin Nano 8GB:", "unverified on hardware", "--pictures"):
        assert word in said, word


@pytest.fixture(scope="module")
def jetson_default(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUE_EDGE_JETSON", "onnxruntime")
        patch.setattr(rtx, "is_here", lambda: False)
        return export(tiny_model_folder, tmp_path_factory.mktemp("jetson") / "six", "jetson")


def test_fp8_is_refused_with_the_reason(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no precision 'fp8' \(the Orin family.*it has: fp16, int8, fp32"):
        export(tiny_model_folder, tmp_path / "out", "jetson", {"precision": "fp8"})
    with pytest.raises(UsageError, match="no backend 'jetpack-9'"):
        export(tiny_model_folder, tmp_path / "out", "jetson", {"backend": "jetpack-9"})
    assert not (tmp_path / "out").exists()


def test_memory_that_does_not_fit_is_said() -> None:
    port = Port((1000, 1000), "float16")
    segment = Segment("a", {"x": port}, {"y": port}, weight_bytes=5 * 10**9)
    needed = report.bytes_needed({"a": segment, "b": segment})
    assert needed == (10 * 10**9, 4 * 2 * 10**6)
    said = report.memory_lines(targets.target("jetson"), needed)
    assert any("Orin Nano 8GB:" in line and "does not fit" in line for line in said)
    assert any("AGX Orin 64GB:" in line and line.endswith("fits") for line in said)
    assert any("Orin NX 16GB:" in line and "tight" in line for line in said)


def test_ranges_are_those_of_the_loop() -> None:
    """The scan sees what a captioning feeds: the peak of the stem's output is that of the first segment's
    input."""
    seen = ranges_of("prompt")
    assert set(seen) == {p.name for p in make_case("prompt").cut.pieces}
    assert seen["stem"]["x"] == seen["image.0"]["x"] > 0
    assert seen["decoder.0"]["slot_bias"] == pytest.approx(1e4)
