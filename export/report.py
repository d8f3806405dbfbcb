"""Where a bundle's bytes are, each weight counted once."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from mue_edge.bundle.folder import Bundle
from mue_edge.export.onnx.format import WEIGHTS


def bytes_by_kind(bundle: Bundle) -> dict[str, int]:
    """Kind of segment ("image", "decoder" …) → bytes of its graphs and of the weights that it alone uses.

    Weights that several kinds use stand under their names joined by " + "; a program that holds all
    segments stands under "segments", a package of several files under its folder's name; what is no segment
    stands under "constants", "golden answers" and "other"; the total is that of all files.
    """
    manifest = bundle.manifest
    graphs = {segment.file for segment in manifest.segments.values()}
    users: dict[tuple[int, int], set[str]] = defaultdict(set)
    sizes: dict[str, int] = defaultdict(int)
    for name, segment in manifest.segments.items():
        kind = name.partition(".")[0]
        if len(graphs) == 1:
            sizes["segments"] = manifest.files[segment.file].bytes
            continue
        if segment.file.count("/") > 1:
            continue
        sizes[kind] += manifest.files[segment.file].bytes
        for place in _places(bundle.path / segment.file):
            users[place].add(kind)
    for (_, length), kinds in users.items():
        sizes[" + ".join(sorted(kinds))] += length
    for file, entry in manifest.files.items():
        parts = file.split("/")
        if parts[0] == "segments" and len(parts) > 2:
            sizes[parts[1]] += entry.bytes
        elif file not in graphs and Path(file).name != WEIGHTS:
            sizes[_other(file)] += entry.bytes
    padding = sum(entry.bytes for entry in manifest.files.values()) - sum(sizes.values())
    sizes["other"] += padding
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _places(graph: Path) -> list[tuple[int, int]]:
    """(offset, length) of the weights that a graph refers to."""
    model = onnx.load(str(graph), load_external_data=False)
    found = [ExternalDataInfo(t) for t in model.graph.initializer if uses_external_data(t)]
    return [(info.offset or 0, info.length or 0) for info in found]


def _other(file: str) -> str:
    if file == "constants.bin":
        return "constants"
    return "golden answers" if file.startswith("golden/") else "other"
