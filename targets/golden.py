"""Golden answers of a bundle: pictures, policies and the reference's decision logs."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mue_edge import image, schema
from mue_edge.bundle import Bundle, Preprocess
from mue_edge.errors import InputFileError
from mue_edge.reading import read_json
from mue_edge.replay import Log

PICTURES = "golden/pictures.npy"
LOGS = "golden/logs.json"


@dataclass(frozen=True)
class Golden:
    """One picture (its index in the file), the policy that it was captioned by, and the log; `source`: ids of
    the text that it was shown with."""

    picture: int
    policy: dict[str, Any]
    log: Log
    source: tuple[int, ...] = ()


def pixels(picture: NDArray[np.uint8], p: Preprocess) -> NDArray[np.float32]:
    """[H, W, 3] bytes → [1, 3, H, W] float32, as `image.preprocess` does after resizing."""
    return image.as_input(picture, p.mean, p.std)


def read(bundle: Bundle) -> tuple[NDArray[np.uint8], list[Golden]]:
    """Pictures [n, H, W, 3] and logs. Raises InputFileError for files that do not fit."""
    try:
        raw = io.BytesIO(bundle.file(PICTURES).read_bytes())
        shown: NDArray[np.uint8] = np.load(raw, allow_pickle=False)
    except ValueError as problem:
        raise InputFileError(f"{bundle.path}: golden answers cannot be read: {problem}") from problem
    data = read_json(bundle.file(LOGS))
    if not isinstance(data, list):
        raise InputFileError(f"{bundle.path}: {LOGS} is no list of golden answers")
    logs = [schema.decode(Golden, entry, f"{LOGS}[{i}]") for i, entry in enumerate(data)]
    p = bundle.manifest.preprocess
    if shown.shape[1:] != (p.height, p.width, 3) or any(not 0 <= g.picture < len(shown) for g in logs):
        raise InputFileError(f"{bundle.path}: golden pictures do not fit the logs")
    return shown, logs
