"""Golden answers of a bundle: pictures, policies and the reference's decision logs."""

from __future__ import annotations

import io
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mue_edge import schema
from mue_edge.arrays import Array, Floats
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Manifest, Preprocess
from mue_edge.errors import InputFileError
from mue_edge.inputs import image
from mue_edge.loop.replay import DecisionLog
from mue_edge.reading import read_json

PICTURES = "golden/pictures.npy"
LOGS = "golden/logs.json"
SUMS = "golden/sums.npz"


@dataclass(frozen=True)
class Golden:
    """One picture (its index in the file), the policy that it was captioned by, and the log; `source`: ids of
    the text that it was shown with."""

    picture: int
    policy: dict[str, Any]
    log: DecisionLog
    source: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sums:
    """An int8 segment's inputs (constants of the bundle left out), the float segment's output `port`, and how
    far from it int8 lies when its products are summed exactly (root mean square)."""

    segment: str
    port: str
    inputs: Mapping[str, Array]
    wanted: Floats
    error: float


def pixels(picture: Array, p: Preprocess) -> Floats:
    """[H, W, 3] bytes → [1, 3, H, W] float32, as `image.preprocess` does after resizing."""
    return image.as_input(picture, p.mean, p.std)


def read(bundle: Bundle) -> tuple[Array, list[Golden]]:
    """Pictures [n, H, W, 3] and logs. Raises InputFileError for files that do not fit."""
    try:
        raw = io.BytesIO(bundle.file(PICTURES).read_bytes())
        pictures: Array = np.load(raw, allow_pickle=False)
    except ValueError as problem:
        raise InputFileError(f"{bundle.path}: golden answers cannot be read: {problem}") from problem
    data = read_json(bundle.file(LOGS))
    if not isinstance(data, list):
        raise InputFileError(f"{bundle.path}: {LOGS} is no list of golden answers")
    logs = [schema.decode(Golden, entry, f"{LOGS}[{i}]") for i, entry in enumerate(data)]
    p = bundle.manifest.preprocess
    unknown = any(not 0 <= entry.picture < len(pictures) for entry in logs)
    if pictures.shape[1:] != (p.height, p.width, 3) or unknown:
        raise InputFileError(f"{bundle.path}: golden pictures do not fit the logs")
    return pictures, logs


def write_sums(path: Path, sums: Sequence[Sums]) -> None:
    """An entry for each array: segment, what it is, and its port."""
    arrays: dict[str, Array] = {}
    for one in sums:
        arrays |= {f"{one.segment} in {port}": x for port, x in one.inputs.items()}
        arrays[f"{one.segment} out {one.port}"] = one.wanted
        arrays[f"{one.segment} error {one.port}"] = np.asarray(one.error)
    np.savez(path, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options


def read_sums(bundle: Bundle) -> list[Sums]:
    """Of an int8 bundle that has them. Raises InputFileError for a file that does not fit."""
    if SUMS not in bundle.manifest.files:
        return []
    inputs: dict[str, dict[str, Array]] = defaultdict(dict)
    outputs: list[Sums] = []
    try:
        with np.load(io.BytesIO(bundle.file(SUMS).read_bytes()), allow_pickle=False) as file:
            for segment, kind, port in (key.split(" ") for key in file.files):
                values = file[f"{segment} {kind} {port}"]
                if kind == "in":
                    inputs[segment][port] = values
                elif kind == "out":
                    error = float(file[f"{segment} error {port}"])
                    outputs.append(Sums(segment, port, inputs[segment], values, error))
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as problem:
        raise InputFileError(f"{bundle.path}: {SUMS} cannot be read: {problem}") from problem
    unfit = [sums.segment for sums in outputs if not _fits(bundle.manifest, sums)]
    if unfit:
        raise InputFileError(f"{bundle.path}: {SUMS} does not fit the segments {', '.join(unfit)}")
    return outputs


def _fits(manifest: Manifest, sums: Sums) -> bool:
    """Whether shapes are the segment's, no input is lacking and there is an error to compare with."""
    constants, entry = manifest.layout.constants().get(sums.segment), manifest.segments.get(sums.segment)
    if constants is None or entry is None or not 0 < sums.error < np.inf:
        return False
    return (
        {*sums.inputs, *constants} == set(entry.inputs)
        and all(x.shape == entry.inputs[port].shape for port, x in sums.inputs.items())
        and sums.port in entry.outputs
        and sums.wanted.shape == entry.outputs[sums.port].shape
    )


def rms(a: Array, b: Array) -> float:
    """Root mean square of the differences."""
    return float(np.sqrt(np.mean(np.square(a.astype(np.float64) - b))))
