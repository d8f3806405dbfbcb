"""Tensors to a file of safetensors."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mue_edge.errors import missing_extra


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises OSError, of `path`, where the system refuses."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import save_file
    except ImportError as problem:
        raise missing_extra("safetensors", "torch") from problem
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as problem:  # tells the system's errors in its text only
        found = re.search(r"os error (\d+)", str(problem))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from problem
    path.chmod(0o644)  # safetensors writes for the owner only
