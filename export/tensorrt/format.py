"""Segments for TensorRT: typed ONNX with static shapes and shared weights, gated for a JetPack profile.

The plan's backend names the profile. Engines are never shipped: `mue-edge build` makes them on the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mue_edge import targets
from mue_edge.bundle.manifest import Manifest, Port, Segment
from mue_edge.errors import VerificationError
from mue_edge.export import fit, golden
from mue_edge.export.formats import Call, Progress, Written
from mue_edge.export.onnx import format as onnx
from mue_edge.export.onnx import lower, qdq
from mue_edge.export.onnx.half import half, wide_kinds
from mue_edge.export.ranges import Graph, Ranges, scan
from mue_edge.export.tensorrt import gates, jetpack, rtx, trtexec
from mue_edge.export.tensorrt.jetpack import JetPackProfile
from mue_edge.models.cut import Cut
from mue_edge.targets.golden import pixels

PACKAGES = ("onnxruntime", "torch")
# For the range scan, where the model comes with pictures or the user names some.
PICTURES = 32
_RTX_TYPES = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "INT32": "int32", "INT8": "int8"}


def write(cut: Cut, manifest: Manifest, folder: Path, progress: Progress) -> Written:
    """Trace, type, gate and write every segment; with the extra rtx, build each with the proxy too.

    Raises VerificationError for a segment that a gate or the proxy refuses.
    """
    profile = jetpack.profile(str(manifest.plan["backend"]))
    exporter, graphs = onnx.Exporter(), []
    for i, piece in enumerate(cut.pieces):
        progress(piece.name, i, len(cut.pieces))
        graphs.append(Graph(piece, exporter.graph(piece)))
    ranges: Ranges = {}
    if manifest.precision != "fp32":
        ranges = _ranges(cut, graphs, manifest, progress)
    made, kept = typed(graphs, manifest.precision, profile, ranges)
    for graph in made:
        gates.check(graph.model, graph.piece.name, profile)
    segments = onnx.write_segments([(graph.piece, graph.model) for graph in made], folder)
    if not profile.runs:
        script = trtexec.script(profile, manifest.precision, [(g.piece.name, g.model) for g in made])
        (folder / trtexec.FILE).write_text(script, encoding="utf-8")
    proxy = _proxy(segments, folder, profile, progress)
    needed = fit.bytes_needed(segments)
    summary = (
        f"for {profile.title}, TensorRT {profile.tensorrt}; opset {profile.opset}; all gates passed",
        *_on_precision(manifest.precision, profile, kept, len(cut.samples)),
        f"proxy build: {proxy}",
        *fit.lines(targets.target(manifest.target), needed),
        _next(profile),
    )
    return Written(segments, summary=summary, versions=profile.tensorrt, evidence={"rtx_aot_build": proxy})


def caller(manifest: Manifest, folder: Path) -> Call:
    """The typed graphs in ONNX Runtime, which computes on the CPU what its CPU kernels can."""
    plain = onnx.caller(manifest, folder)

    def call(name: str, inputs: Sequence[onnx.Array]) -> Sequence[onnx.Array]:
        ports = manifest.segments[name].inputs.values()
        return plain(name, [x.astype(port.dtype, copy=False) for x, port in zip(inputs, ports)])

    return call


def typed(
    graphs: Sequence[Graph], precision: str, profile: JetPackProfile, ranges: Ranges
) -> tuple[list[Graph], dict[str, tuple[str, ...]]]:
    """The graphs in that precision, opset and IR; and segment → what its scan kept in float32.

    Where the profile's TensorRT takes precision as a flag, the graph stays in float32, with Q/DQ for int8.
    """
    ports = {g.piece.name: (*g.piece.inputs, *g.piece.outputs) for g in graphs}
    wide = wide_kinds(ranges, ports)
    made, kept = [], {}
    for graph in graphs:
        name, model = graph.piece.name, graph.model
        peaks = ranges.get(name, {})
        if precision == "int8":
            model = qdq.int8(name, model, peaks)
        if precision != "fp32" and profile.typed:
            result = half(model, peaks, wide)
            model = result.model
            if result.kept:
                kept[name] = result.kept
        made.append(Graph(graph.piece, lower.to_opset(model, profile.opset, profile.ir)))
    return made, kept


def _ranges(cut: Cut, graphs: Sequence[Graph], manifest: Manifest, progress: Progress) -> Ranges:
    shown: Sequence[object] = cut.samples
    if not shown:
        p = manifest.preprocess
        shown = [pixels(picture, p) for picture in golden.pictures(p.height, p.width)]
    done = iter(range(len(shown)))
    return scan(
        cut, graphs, manifest.layout, manifest.search, shown,
        lambda: progress("scanning ranges", next(done), len(shown)),
    )  # fmt: skip


def _proxy(segments: Mapping[str, Segment], folder: Path, profile: JetPackProfile, progress: Progress) -> str:
    """What the manifest says of the proxy build; see rtx.py."""
    if not profile.typed:
        return "not run (no proxy builds for this TensorRT)"
    if not rtx.is_here():
        return "not run (pip install 'mue-edge[rtx]')"
    progress("proxy build", 0, 1)
    for name, built in rtx.build({name: folder / s.file for name, s in segments.items()}).items():
        for found, wanted in ((built.inputs, segments[name].inputs), (built.outputs, segments[name].outputs)):
            ports = {port: Port(shape, _RTX_TYPES[kind]) for port, (shape, kind) in found.items()}
            if ports != dict(wanted):
                raise VerificationError(f"segment {name}: the proxy build sees {ports}, not {dict(wanted)}")
    return f"pass, {len(segments)} segments ({rtx.label()})"


def _on_precision(
    precision: str, profile: JetPackProfile, kept: Mapping[str, tuple[str, ...]], pictures: int
) -> list[str]:
    if precision == "fp32":
        return []
    shown = f"{pictures} pictures" if pictures else "made pictures; give your own with --pictures"
    if not profile.typed:
        return [f"ranges from {shown}; float16 is trtexec's flag, exit scores and norms stay in float32"]
    if not kept:
        return [f"ranges from {shown}: all fits float16; exit scores and log-probabilities are float32"]
    lines = [f"ranges from {shown}: kept in float32, beside exit scores and log-probabilities:"]
    return lines + [f"  {name}: {', '.join(dict.fromkeys(nodes))}" for name, nodes in kept.items()]


def _next(profile: JetPackProfile) -> str:
    if not profile.runs:
        return f"on the device: sh {trtexec.FILE} builds the engines; mue-edge itself does not run there"
    return (
        "unverified on hardware; on the device: mue-edge build BUNDLE, then mue-edge verify BUNDLE --device"
    )
