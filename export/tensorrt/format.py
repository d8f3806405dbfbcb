"""Segments for TensorRT: typed ONNX with static shapes and shared weights, gated for a JetPack profile.

The plan's backend names the profile. Engines are never shipped: `mue-edge build` makes them on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mue_edge import targets
from mue_edge.arrays import Array
from mue_edge.bundle.manifest import Manifest, Port, Segment
from mue_edge.errors import VerificationError
from mue_edge.export import golden, report
from mue_edge.export.formats import Call, Written
from mue_edge.export.onnx import format as onnx
from mue_edge.export.onnx import lower, qdq
from mue_edge.export.onnx.graphs import Graph
from mue_edge.export.onnx.half import half, wide_kinds
from mue_edge.export.progress import Progress
from mue_edge.export.ranges import Ranges, scan
from mue_edge.export.tensorrt import gates, jetpack, rtx, trtexec
from mue_edge.export.tensorrt.jetpack import JetPackProfile
from mue_edge.models.cut import Cut
from mue_edge.targets.golden import pixels

PACKAGES = ("onnxruntime", "torch")
# For the range scan, where the model comes with pictures or the user names some.
PICTURES = 32
RUNS = "unverified on hardware; on the device: mue-edge build BUNDLE, then mue-edge verify BUNDLE --device"
SCRIPT = f"on the device: sh {trtexec.FILE} builds the engines; mue-edge itself does not run there"
_RTX_TYPES = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "INT32": "int32", "INT8": "int8"}


def write(cut: Cut, manifest: Manifest, folder: Path, progress: Progress) -> Written:
    """Trace, type, gate and write every segment; with the extra rtx, build each with the proxy too. Raises
    VerificationError for a segment that a gate or the proxy refuses."""
    profile = jetpack.profile(str(manifest.plan["backend"]))
    graphs = onnx.Exporter().graphs(cut, progress)
    ranges = {} if manifest.precision == "fp32" else _ranges(cut, graphs, manifest, progress)
    graphs, kept = typed(graphs, manifest.precision, profile, ranges)
    for piece, model in graphs:
        gates.check(model, piece.name, profile)
    segments = onnx.write_segments(graphs, folder)
    if not profile.runs:
        script = trtexec.script(profile, manifest.precision, graphs)
        (folder / trtexec.FILE).write_text(script, encoding="utf-8")
    proxy = _proxy(segments, folder, profile, progress)
    summary = (
        f"for {profile.title}, TensorRT {profile.tensorrt}; opset {profile.opset}; all gates passed",
        *_on_precision(manifest.precision, profile, kept, len(cut.samples)),
        f"proxy build: {proxy}",
        *report.memory_lines(targets.target(manifest.target), report.bytes_needed(segments)),
        RUNS if profile.runs else SCRIPT,
    )
    return Written(segments, summary=summary, versions=profile.tensorrt, evidence={"rtx_aot_build": proxy})


def caller(manifest: Manifest, folder: Path) -> Call:
    """The typed graphs in ONNX Runtime, which computes on the CPU what its CPU kernels can."""
    plain = onnx.caller(manifest, folder)

    def call(name: str, inputs: Sequence[Array]) -> Sequence[Array]:
        ports = manifest.segments[name].inputs.values()
        return plain(name, [x.astype(port.dtype, copy=False) for x, port in zip(inputs, ports)])

    return call


def typed(
    graphs: Sequence[Graph], precision: str, profile: JetPackProfile, ranges: Ranges
) -> tuple[list[Graph], dict[str, tuple[str, ...]]]:
    """The graphs in that precision, opset and IR; and segment → what its scan kept in float32. Where the
    profile's TensorRT takes precision as a flag, they stay in float32, with Q/DQ for int8."""
    wide = wide_kinds(ranges, {piece.name: (*piece.inputs, *piece.outputs) for piece, _ in graphs})
    results, kept = [], {}
    for piece, model in graphs:
        peaks = ranges.get(piece.name, {})
        if precision == "int8":
            model = qdq.int8(piece.name, model, peaks)
        if precision != "fp32" and profile.typed:
            model, nodes = half(model, peaks, wide)
            if nodes:
                kept[piece.name] = nodes
        results.append(Graph(piece, lower.to_opset(model, profile.opset, profile.ir)))
    return results, kept


def _ranges(cut: Cut, graphs: Sequence[Graph], manifest: Manifest, progress: Progress) -> Ranges:
    p, pictures = manifest.preprocess, cut.samples
    if not pictures:
        pictures = tuple(pixels(picture, p) for picture in golden.pictures(p.height, p.width))
    done = iter(range(len(pictures)))

    def step() -> None:
        progress("scanning ranges", next(done), len(pictures))

    return scan(cut, graphs, manifest.layout, manifest.search, pictures, step)


def _proxy(segments: Mapping[str, Segment], folder: Path, profile: JetPackProfile, progress: Progress) -> str:
    """What the manifest says of the proxy build; see rtx.py."""
    if not profile.typed:
        return "not run (no proxy builds for this TensorRT)"
    if not rtx.is_here():
        return "not run (pip install 'mue-edge[rtx]')"
    progress("proxy build", 0, 1)
    for name, built in rtx.build({name: folder / s.file for name, s in segments.items()}).items():
        for side, wanted in (("inputs", segments[name].inputs), ("outputs", segments[name].outputs)):
            ports = {p: Port(tuple(shape), _RTX_TYPES[kind]) for p, (shape, kind) in built[side].items()}
            if ports != dict(wanted):
                raise VerificationError(f"segment {name}: the proxy build sees {ports}, not {dict(wanted)}")
    return f"pass, {len(segments)} segments ({rtx.label()})"


def _on_precision(
    precision: str, profile: JetPackProfile, kept: Mapping[str, tuple[str, ...]], pictures: int
) -> list[str]:
    if precision == "fp32":
        return []
    source = f"{pictures} pictures" if pictures else "made pictures; give your own with --pictures"
    if not profile.typed:
        return [f"ranges from {source}; float16 is trtexec's flag, exit scores and norms stay in float32"]
    if not kept:
        return [f"ranges from {source}: all fits float16; exit scores and log-probabilities are float32"]
    lines = [f"ranges from {source}: kept in float32, beside exit scores and log-probabilities:"]
    return lines + [f"  {name}: {', '.join(dict.fromkeys(nodes))}" for name, nodes in kept.items()]
