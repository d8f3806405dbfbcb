"""Where a bundle's bytes are, each weight counted once, and whether its segments fit a device's memory."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Segment
from mue_edge.export.onnx.format import WEIGHTS
from mue_edge.targets import Target

# Share of a device's memory above which a bundle is called tight: system, CUDA and TensorRT live in the rest.
TIGHT = 0.5


def bytes_by_kind(bundle: Bundle) -> dict[str, int]:
    """Kind of segment ("image", "decoder" …) → bytes of its graphs and of the weights that it alone uses;
    weights of several kinds stand under their names joined by " + ", a program of all segments under
    "segments", a package under its folder's name, the rest under "constants", "golden answers" and
    "other"."""
    manifest = bundle.manifest
    graphs = {segment.file for segment in manifest.segments.values()}
    weights: dict[tuple[int, int], set[str]] = defaultdict(set)
    sizes: dict[str, int] = defaultdict(int)
    for name, segment in manifest.segments.items():
        kind = name.partition(".")[0]
        if len(graphs) == 1:
            sizes["segments"] = manifest.files[segment.file].bytes
        elif segment.file.count("/") == 1:
            sizes[kind] += manifest.files[segment.file].bytes
            for place in _weights_of(bundle.path / segment.file):
                weights[place].add(kind)
    for (_, length), kinds in weights.items():
        sizes[" + ".join(sorted(kinds))] += length
    for file, entry in manifest.files.items():
        folder, *names = file.split("/")
        if folder == "segments" and len(names) > 1:
            sizes[names[0]] += entry.bytes
        elif file not in graphs and Path(file).name != WEIGHTS:
            other = "golden answers" if folder == "golden" else "other"
            sizes["constants" if file == "constants.bin" else other] += entry.bytes
    padding = sum(entry.bytes for entry in manifest.files.values()) - sum(sizes.values())
    sizes["other"] += padding
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _weights_of(graph: Path) -> list[tuple[int, int]]:
    """(offset, length) of the weights that a graph refers to."""
    model = onnx.load(str(graph), load_external_data=False)
    external = [ExternalDataInfo(t) for t in model.graph.initializer if uses_external_data(t)]
    return [(info.offset or 0, info.length or 0) for info in external]


def bytes_needed(segments: Mapping[str, Segment]) -> tuple[int, int]:
    """(weights, buffers) in bytes. Each engine owns its weights, so what segments share counts again in each;
    buffers are at most every port's own."""
    ports = [port for s in segments.values() for port in (*s.inputs.values(), *s.outputs.values())]
    buffers = sum(np.dtype(port.dtype).itemsize * math.prod(port.shape) for port in ports)
    return sum(segment.weight_bytes for segment in segments.values()), buffers


def memory_lines(target: Target, needed: tuple[int, int]) -> list[str]:
    """Whether that fits: a line for each device of the target whose memory is known."""
    lines = []
    for device in target.devices.values():
        if device.memory is not None:
            share = sum(needed) / (device.memory.value * 1e9)
            verdict = "fits" if share <= TIGHT else "tight" if share <= 1 else "does not fit"
            lines.append(f"  {device.title}: {share:.1%} of {device.memory.value:g} GB, {verdict}")
    head = (
        f"memory: weights {needed[0] / 1e6:.1f} MB + buffers up to {needed[1] / 1e6:.1f} MB; the engines' "
        "workspace, TensorRT, CUDA and the system come on top"
    )
    return [head, *lines] if lines else []
