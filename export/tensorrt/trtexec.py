"""A shell script that builds a bundle's engines with `trtexec`, for a JetPack without mue-edge."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from mue_edge.export.onnx.graphs import Graph, users
from mue_edge.export.tensorrt.jetpack import JetPackProfile
from mue_edge.loop.signals import PORTS

FILE = "trtexec.sh"
# Where JetPack puts it, which is on nobody's PATH.
_FOLDER = "/usr/src/tensorrt/bin"
_MISSING = f"no trtexec on PATH or in {_FOLDER}: sudo apt install tensorrt"
# What a norm that was taken apart consists of, by the end of its nodes' names (see lower.py).
_NORM = (".mean", ".centred", ".square", ".variance", ".positive", ".deviation", ".unit")


def script(profile: JetPackProfile, precision: str, graphs: Sequence[Graph]) -> str:
    """The script's text. Exit scores and norms are asked for in float32, the rest in the precision."""
    flags = {"fp32": "", "fp16": " --fp16", "int8": " --int8 --fp16"}[precision]
    lines = [
        "#!/bin/sh",
        f"# Engines for {profile.title} (TensorRT {profile.tensorrt}); unverified on hardware.",
        f'set -e; cd "$(dirname "$0")"; mkdir -p engines; PATH="$PATH:{_FOLDER}"',
        f"command -v trtexec >/dev/null || {{ echo '{_MISSING}' >&2; exit 5; }}",
    ]
    for piece, model in graphs:
        name = piece.name
        line = f"trtexec --onnx=segments/{name}.onnx --saveEngine=engines/{name}.engine{flags}"
        line += " --timingCacheFile=engines/timing.cache --buildOnly"
        wide = ",".join(f"{node}:fp32" for node in _float32(model.graph)) if flags else ""
        lines.append(line + (f" --precisionConstraints=prefer --layerPrecisions={wide}" if wide else ""))
    return "\n".join(lines) + "\n"


def _float32(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that lead to exit scores only, and of those that norms consist of."""
    ports, readers = {value.name for value in graph.output}, users(graph)
    scores: set[str] = set()
    for node in reversed(graph.node):
        out, after = node.output[0], {reader.output[0] for reader in readers.get(node.output[0], [])}
        if out in PORTS or (out not in ports and after and after <= scores):
            scores.add(out)
    return [n.name for n in graph.node if n.output[0] in scores or n.name.endswith(_NORM)]
