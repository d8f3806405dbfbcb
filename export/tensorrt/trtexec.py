"""A shell script that builds a bundle's engines with `trtexec`, for a JetPack on which mue-edge does not
run.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from mue_edge.export.tensorrt.jetpack import JetPackProfile
from mue_edge.loop.signals import PORTS

FILE = "trtexec.sh"
# Where JetPack puts it, which is on nobody's PATH.
_PLACE = "/usr/src/tensorrt/bin"
_MISSING = f"no trtexec on PATH or in {_PLACE}: sudo apt install tensorrt"
# What a norm that was taken apart consists of, by the end of its nodes' names (see lower.py).
_NORM = (".mean", ".centred", ".square", ".variance", ".positive", ".deviation", ".unit")


def script(profile: JetPackProfile, precision: str, segments: Sequence[tuple[str, onnx.ModelProto]]) -> str:
    """The script's text. Exit scores and norms are asked for in float32, the rest in the precision."""
    flags = {"fp32": "", "fp16": " --fp16", "int8": " --int8 --fp16"}[precision]
    lines = [
        "#!/bin/sh",
        f"# Engines for {profile.title} (TensorRT {profile.tensorrt}); unverified on hardware.",
        f'set -e; cd "$(dirname "$0")"; mkdir -p engines; PATH="$PATH:{_PLACE}"',
        f"command -v trtexec >/dev/null || {{ echo '{_MISSING}' >&2; exit 5; }}",
    ]
    for name, model in segments:
        wide = _float32(model.graph) if flags else []
        held = (
            f" --precisionConstraints=prefer --layerPrecisions={','.join(f'{n}:fp32' for n in wide)}"
            if wide
            else ""
        )
        lines.append(
            f"trtexec --onnx=segments/{name}.onnx --saveEngine=engines/{name}.engine{flags}"
            f" --timingCacheFile=engines/timing.cache --buildOnly{held}"
        )
    return "\n".join(lines) + "\n"


def _float32(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that lead to exit scores only, and of those that norms consist of."""
    ports = {value.name for value in graph.output}
    users: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, set()).add(node.output[0])
    found: set[str] = set()
    for node in reversed(graph.node):
        out = node.output[0]
        if out in PORTS or (out not in ports and users.get(out) and users[out] <= found):
            found.add(out)
    return [n.name for n in graph.node if n.output[0] in found or n.name.endswith(_NORM)]
